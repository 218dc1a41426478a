import { describe, expect, it } from 'vitest'
import { areaOf, crosses, deleteCorner, insertCorner, moveAll, moveCorner, nearestEdge, type Polygon } from '@/engineer/scene/geometry'
import { History } from '@/engineer/scene/history'
import { groundFault, tidyScene, zoneFault, type SceneZone, type VisionRule } from '@/engineer/scene/scene'
import { rateText } from '@/engineer/findings/precision'

const SQUARE: Polygon = [
  [0.2, 0.2],
  [0.6, 0.2],
  [0.6, 0.6],
  [0.2, 0.6],
]
const RULES: VisionRule[] = [{ name: 'crowding', title_zh: '人员聚集', title_en: 'Crowding', schema: { type: 'object', properties: { limit: { type: 'integer' } }, required: ['limit'] } }]
const zone = (change: Partial<SceneZone> = {}): SceneZone => ({ name: 'A', rule: 'crowding', polygon: SQUARE, parameters: { limit: 5 }, ...change })

describe('a zone is changed by its corners', () => {
  it('a corner stays in the picture', () => {
    expect(moveCorner(SQUARE, 2, [1.4, -3])[2]).toEqual([1, 0])
  })

  it('the whole shape stops at the edge and keeps its form', () => {
    const moved = moveAll(SQUARE, [0.9, 0])
    expect(moved[1]).toEqual([1, 0.2])
    expect(areaOf(moved)).toBeCloseTo(areaOf(SQUARE))
  })

  it('corners are added on an edge and taken away, down to three', () => {
    const more = insertCorner(SQUARE, 3)
    expect(more[4]).toEqual([0.2, 0.4])
    expect(deleteCorner(more, 4)).toEqual(SQUARE)
    const three = SQUARE.slice(0, 3)
    expect(deleteCorner(three, 0)).toBe(three)
  })

  it('the nearest edge is found on the picture, not in fractions', () => {
    expect(nearestEdge(SQUARE, [0.4, 0.22], 16 / 9)).toMatchObject({ edge: 0 })
    expect(nearestEdge(SQUARE, [0.21, 0.4], 16 / 9)).toMatchObject({ edge: 3 })
  })
})

describe('what the server would refuse is said at the zone', () => {
  it.each([
    ['a bow', [[0, 0], [1, 1], [1, 0], [0, 1]], true],
    ['a square', SQUARE, false],
    ['a notch', [[0, 0], [1, 0], [1, 1], [0.5, 0.5], [0, 1]], false],
    ['a spike', [[0, 0], [1, 0], [0.5, 0], [0.5, 1]], true],
    ['a corner on another edge', [[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]], true],
  ] as [string, Polygon, boolean][])('%s', (_, polygon, expected) => {
    expect(crosses(polygon)).toBe(expected)
  })

  it('each fault by its name', () => {
    const good = zone()
    expect(zoneFault(good, [good], RULES)).toBeNull()
    expect(zoneFault(zone({ polygon: [[0, 0], [1, 1]] }), [], RULES)).toBe('few_corners')
    expect(zoneFault(zone({ polygon: [[0.5, 0.5], [0.505, 0.5], [0.5, 0.505]] }), [], RULES)).toBe('no_area')
    expect(zoneFault(zone({ name: ' ' }), [], RULES)).toBe('no_name')
    expect(zoneFault(good, [good, zone()], RULES)).toBe('double_name')
    expect(zoneFault(zone({ rule: 'gone' }), [], RULES)).toBe('no_rule')
    expect(zoneFault(zone({ parameters: {} }), [], RULES)).toBe('missing')
  })

  it('ground pairs: four, and not on one line', () => {
    const metres: [number, number][] = [[0, 0], [5, 0], [5, 5], [0, 5]]
    expect(groundFault({ points: SQUARE, metres })).toBeNull()
    expect(groundFault({ points: SQUARE.slice(0, 3), metres: metres.slice(0, 3) })).toBe('few_pairs')
    expect(groundFault({ points: SQUARE, metres: [[0, 0], [1, 0], [2, 0], [3, 0]] })).toBe('one_line')
  })
})

it('a scene is sent without what is empty, and with what this page does not know', () => {
  const sent = tidyScene({ zones: [zone({ lon: 120, lat: null, preset: '' })], ground: { points: [], metres: [] }, presets: [], later: 1 })
  expect(sent).toEqual({ zones: [zone()], later: 1 })
})

it('one drag is one step back', () => {
  const history = new History(0)
  history.put(1, 'drag')
  history.put(2, 'drag')
  history.rest()
  history.put(3, 'drag')
  expect(history.undo()).toBe(2)
  expect(history.undo()).toBe(0)
  expect(history.canUndo).toBe(false)
  expect(history.redo()).toBe(2)
})

it('a precision is told with its interval, or not at all', () => {
  expect(rateText({ found: 9, right: 8, wrong: 1, precision: 8 / 9, low: 0.572, high: 0.98 })).toBe('89% (57–98)')
  expect(rateText({ found: 9, right: 0, wrong: 0, precision: null, low: null, high: null })).toBe('')
})
