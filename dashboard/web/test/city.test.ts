import { describe, expect, it } from 'vitest'
import { applyMessages, createCity } from '@/model/city'
import { at, buildDelta, buildIncident, buildSnapshot, NOW } from './build'

describe('the city as the page knows it', () => {
  it('is replaced by a snapshot and changed by deltas', () => {
    const city = createCity()
    const [kept, changed] = [buildIncident(), buildIncident()]
    applyMessages(city, [buildSnapshot(1, [kept, changed])], NOW)
    const told = applyMessages(city, [buildDelta(2, { ...changed, version: 2, state: 'accepted' })], NOW)
    expect(city.incidents.value.get(changed.id)?.state).toBe('accepted')
    expect(city.incidents.value.get(kept.id)).toBe(kept)
    expect([...told.incidents]).toEqual([changed.id])
  })

  it('does not go back to an older version that comes late', () => {
    const city = createCity()
    const incident = buildIncident({ version: 7, state: 'on_site' })
    applyMessages(city, [buildSnapshot(1, [incident]), buildDelta(2, { ...incident, version: 6, state: 'accepted' })], NOW)
    expect(city.incidents.value.get(incident.id)?.state).toBe('on_site')
  })

  it('forgets what the person may not see any more', () => {
    const city = createCity()
    const incident = buildIncident()
    const gone = { type: 'delta', seq: 2, changes: [{ kind: 'incident', id: incident.id, data: null }] } as const
    applyMessages(city, [buildSnapshot(1, [incident]), { ...gone, changes: [...gone.changes] }], NOW)
    expect(city.incidents.value.size).toBe(0)
  })

  it('takes telemetry only for devices that it knows', () => {
    const city = createCity()
    const told = applyMessages(city, [buildSnapshot(1), { type: 'live', at: at(0), devices: [{ id: 'x', status: 'ok' }] }], NOW)
    expect(city.devices.value.size).toBe(0)
    expect(told.snapshot).toBe(true)
  })

  it("keeps the server's clock, by which time left is counted", () => {
    const city = createCity()
    applyMessages(city, [{ type: 'ping', at: at(90) }], NOW)
    expect(city.facts.clockOffsetMs).toBe(90_000)
  })

  it('knows since when the database is away, and when it is back', () => {
    const city = createCity()
    applyMessages(city, [{ type: 'degraded', since: at(-5) }], NOW)
    expect(city.facts.degradedSince).toBe(at(-5))
    applyMessages(city, [{ type: 'ping', at: at(0), degraded_since: at(-5) }], NOW)
    expect(city.facts.degradedSince).toBe(at(-5))
    applyMessages(city, [{ type: 'degraded', since: null }], NOW)
    expect(city.facts.degradedSince).toBeNull()
  })

  it('remembers when the last incident was closed', () => {
    const city = createCity()
    const closed = buildIncident({ state: 'closed', ended_at: at(-3) })
    applyMessages(city, [buildSnapshot(1), buildDelta(2, closed)], NOW)
    expect(city.facts.summary?.last_closed_at).toBe(at(-3))
  })
})
