import { describe, expect, it } from 'vitest'
import type { Curve, Forecast } from '@/api/things'
import { buildForecast, buildLines, writeCsv } from '@/chart/curve'
import { at, NOW } from './build'

function point(s: number, value: number, spread = 0) {
  return { at: at(s), value, least: value - spread, greatest: value + spread, n: 1 }
}
function build(changes: Partial<Curve> = {}): Curve {
  return { metric: 'level_m', unit: 'm', bucket_s: 60, gap_s: 300, points: [point(0, 1), point(60, 2)], gaps: [], ...changes }
}

describe('a curve', () => {
  it('is broken at a gap: nothing is drawn where nothing came', () => {
    const points = [point(0, 1), point(60, 2), point(600, 3), point(660, 4)]
    const { value } = buildLines(build({ points, gaps: [{ from: at(60), to: at(600) }] }))
    const inside = value.filter(([ms]) => ms > NOW + 60_000 && ms < NOW + 600_000)
    expect(inside).toHaveLength(1)
    expect(inside[0]![1]).toBeNull()
    expect(value.map(([, v]) => v)).toEqual([1, 2, null, 3, 4])
  })

  it('has a band from least to greatest, and none when every bucket holds one value', () => {
    const wide = buildLines(build({ points: [point(0, 1, 0.25)] }))
    expect(wide.hasBand).toBe(true)
    expect([wide.least[0]![1], wide.spread[0]![1]]).toEqual([0.75, 0.5])
    expect(buildLines(build()).hasBand).toBe(false)
  })

  it('before its first reading begins without a break of its own', () => {
    const { value } = buildLines(build({ gaps: [{ from: at(-3600), to: at(0) }] }))
    expect(value).toHaveLength(2)
  })

  it('goes into a spreadsheet with its gaps, its unit and its mark for Chinese', () => {
    const csv = writeCsv(build({ gaps: [{ from: at(30), to: at(60) }] }), '河道水位')
    expect(csv.startsWith('\ufeffat_utc,河道水位 (m),least,greatest,n\r\n')).toBe(true)
    expect(csv.split('\r\n')[2]).toBe(`${at(30)},,,,0`)
  })
})

it('a forecast is a line with a band, and nothing when it has no points', () => {
  const forecast = (points: Forecast['points']): Forecast => ({
    method: 'damped_holt',
    metric: 'level_m',
    points,
    mean_absolute_error_m: 0.1,
    persistence_error_m: 0.2,
    trained_on: { from: at(-86_400), to: at(0), steps: 144 },
  })
  const lines = buildForecast(forecast([{ at: at(600), value: 2, low: 1.5, high: 2.75, error_m: 0.1 }]))
  expect([lines!.value[0]![1], lines!.low[0]![1], lines!.spread[0]![1]]).toEqual([2, 1.5, 1.25])
  expect(buildForecast(forecast([]))).toBeNull()
})
