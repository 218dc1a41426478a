import { describe, expect, it, vi } from 'vitest'
import '@/engineer/words'
import { createConsole, rawText } from '@/engineer/device/console'
import { changedFields, openDraft as openRecord } from '@/engineer/device/registry'
import { createList, listAddress, NO_FILTERS } from '@/engineer/device-list'
import { payloadText } from '@/engineer/letter'
import { readNext } from '@/login/seat'
import { labelAddress, readRoute } from '@/engineer/route'
import { compareVersions } from '@/engineer/rules/diff'
import { openDraft, writeRule } from '@/engineer/rules/draft'
import { lotLook, lotOf } from '@/parking/lot'
import { readCode } from '@/scan/find'
import type { ConsoleMessage, DeviceDetail, Lot, RuleRecord } from '@/api/things'
import { at } from './build'

function say(id: string, refused: string | null = null): ConsoleMessage {
  return { type: 'message', at: at(0), way: 'mqtt', topic: 'gridwarden/smoke_alarm/S/telemetry', raw: `{"id":"${id}"}`, decoded: [], refused, detail: '' }
}

describe('the live console', () => {
  it('holds still while it is paused, and loses nothing meanwhile', () => {
    const { lines, take, pause, waiting } = createConsole()
    take(say('1'))
    pause(true)
    take(say('2'))
    expect(lines.value).toHaveLength(1)
    expect(waiting.value).toBe(1)
    pause(false)
    expect(lines.value.map((line) => line.raw)).toEqual(['{"id":"2"}', '{"id":"1"}'])
  })

  it('keeps so many and says how many it let go', () => {
    const { lines, take, dropped } = createConsole(3)
    for (const id of ['1', '2', '3', '4', '5']) take(say(id))
    expect(lines.value).toHaveLength(3)
    expect(dropped.value).toBe(2)
  })

  it('shows refused ones alone on demand', () => {
    const { lines, take, onlyRefused } = createConsole()
    take(say('1'))
    take(say('2', 'bad_payload'))
    onlyRefused.value = true
    expect(lines.value.map((line) => line.refused)).toEqual(['bad_payload'])
  })

  it('lays JSON out, groups bytes, leaves text alone', () => {
    expect(rawText('{"a":1}')).toBe('{\n  "a": 1\n}')
    expect(rawText('7e7e0100112233445566')).toBe('7e 7e 01 00 11 22 33 44 55 66')
    expect(rawText('{"a":')).toBe('{"a":')
  })
})

describe('the list of devices', () => {
  it('asks the server with the filters that are set', () => {
    expect(listAddress({ ...NO_FILTERS, q: '天水', status: 'offline' }, 7)).toBe('/devices?limit=200&q=%E5%A4%A9%E6%B0%B4&status=offline&after=7')
  })

  it('reads further pages after the first and forgets answers that a newer question overtook', async () => {
    let answer: (value: unknown) => void = () => undefined
    const get = vi.fn(() => new Promise((resolve) => (answer = resolve))) as never
    const list = createList({ get })
    const slow = list.read({ ...NO_FILTERS, q: 'a' })
    const answerSlow = answer
    const quick = list.read({ ...NO_FILTERS, q: 'ab' })
    answer(Array.from({ length: 200 }, (_, index) => ({ id: `q${index}`, map_id: index })))
    await quick
    answerSlow([{ id: 'slow', map_id: 1 }])
    await slow
    expect(list.rows.value).toHaveLength(200)
    expect(list.hasMore.value).toBe(true)
    const more = list.readMore()
    answer([{ id: 'last', map_id: 200 }])
    await more
    expect(list.rows.value.at(-1)?.id).toBe('last')
    expect(get).toHaveBeenLastCalledWith('/devices?limit=200&q=ab&after=199')
    expect(list.hasMore.value).toBe(false)
  })
})

describe('addresses', () => {
  it('lead to lists, devices and their tabs; what is not known leads to the list', () => {
    expect(readRoute('/devices')).toEqual({ page: 'devices', id: null, tab: 'state' })
    expect(readRoute('/devices/rules/new')).toEqual({ page: 'rules', id: 'new', tab: 'state' })
    expect(readRoute('/devices/0198-abc/console')).toEqual({ page: 'devices', id: '0198-abc', tab: 'console' })
    expect(readRoute('/devices/0198-abc/nonsense').tab).toBe('state')
  })

  it('with a code for an id lead to where codes are known', () => {
    expect(labelAddress(readRoute('/devices/RIV-01/console'))).toBe('/device/RIV-01')
    expect(labelAddress(readRoute('/devices/019aa3f0-07e0-7004-b58e-6a78a6e7a1b3'))).toBeNull()
    expect(labelAddress(readRoute('/devices/rules/new'))).toBeNull()
  })

  it('of a label give the code back', () => {
    expect(readCode('/device/SMK-01')).toBe('SMK-01')
    expect(readCode('/device/')).toBe('')
  })

  it('after a log-in are our own pages only', () => {
    expect(readNext('?next=%2Fdevice%2FSMK-01')).toBe('/device/SMK-01')
    expect(readNext('?next=%2Fdevices%2Frules%3Fa%3D1')).toBe('/devices/rules?a=1')
    expect(readNext('?next=https%3A%2F%2Fevil.example')).toBeNull()
    expect(readNext('?next=%2F%2Fevil.example')).toBeNull()
    expect(readNext('?next=%2Fdevices%2F%2F..%2F')).toBeNull()
  })
})

describe('the record of a device', () => {
  const device = {
    id: 'd',
    name: '烟感',
    lon: 120.1,
    lat: 30.2,
    enabled: true,
    registry: { maker: 'A', settings: { hold_s: 3 } },
  } as unknown as DeviceDetail

  it('sends what was changed and nothing else', () => {
    const draft = openRecord(device)
    expect(changedFields(device, draft)).toEqual({})
    draft.maker = ' B '
    draft.lon = '120.2'
    expect(changedFields(device, draft)).toEqual({ maker: 'B', lon: 120.2, lat: 30.2, crs: 'EPSG:4490' })
  })

  it('does not send settings that are no JSON', () => {
    const draft = { ...openRecord(device), settings: '{' }
    expect(() => changedFields(device, draft)).toThrow(SyntaxError)
  })
})

describe('a rule', () => {
  const rule: RuleRecord = {
    id: 'r',
    name: 'high_level',
    type: 'threshold',
    scope: { kind: 'river_sluice', area: null, device: null },
    title_zh: '水位高',
    title_en: 'High level',
    category: 'river_level',
    severity: null,
    parameters: { metric: 'level_m', limit: 2.5 },
    window: { start: '22:00:00', end: '05:00:00' },
    damping: null,
    mode: 'off',
    version: 1,
    actor: '林',
    reason: '',
    changed_at: at(0),
  }

  it('goes through the form unchanged', () => {
    expect(writeRule(openDraft(rule))).toMatchObject({
      name: 'high_level',
      scope: { kind: 'river_sluice' },
      parameters: { metric: 'level_m', limit: 2.5 },
      window: { start: '22:00', end: '05:00' },
      damping: null,
    })
  })

  it('shows what differs from the version before, and not who wrote it when', () => {
    const later = { ...rule, version: 2, actor: '周', changed_at: at(60), parameters: { metric: 'level_m', limit: 3 }, mode: 'live' as const }
    expect(compareVersions(rule, later)).toEqual([
      { path: 'mode', before: 'off', after: 'live' },
      { path: 'parameters.limit', before: 2.5, after: 3 },
    ])
  })
})

it('a dead letter of bytes is shown as a dump', () => {
  expect(payloadText({ payload_text: null, payload_base64: btoa('~~\u0001SL') })).toBe(`0000  ${'7e 7e 01 53 4c'.padEnd(47)}  ~~.SL`)
})

describe('a parking lot', () => {
  const lot = { id: '1', lot: 'P1', name: '', bays_total: 100, bays_free: 5, open_sessions: 0, lon: 120, lat: 30 } as Lot

  it('is told apart when few or no bays are left, and when nobody knows', () => {
    expect(lotLook(lot)).toBe('few')
    expect(lotLook({ ...lot, bays_free: 0 })).toBe('full')
    expect(lotLook({ ...lot, bays_free: 50 })).toBe('free')
    expect(lotLook({ ...lot, bays_free: null })).toBe('unknown')
  })

  it('belongs to the barrier that stands at it', () => {
    const far = { ...lot, id: '2', lon: 120.01 }
    expect(lotOf([far, lot], { lon: 120.0002, lat: 30 })?.id).toBe('1')
    expect(lotOf([far], { lon: 120.0002, lat: 30 })).toBeNull()
  })
})
