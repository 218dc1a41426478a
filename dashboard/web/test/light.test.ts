import { describe, expect, it } from 'vitest'
import { lightAt, needsAcknowledgement, riskShown, secondsLeft, signOf } from '@/model/light'
import { at, buildIncident, NOW } from './build'

const hour = { limit_from: at(0), amber_at: at(2880), due_at: at(3600) }

describe('a light', () => {
  it('follows time without a message: green to 80 % of the limit, amber to 100 %, red beyond', () => {
    const incident = buildIncident({ ...hour, light: 'green' })
    expect(lightAt(incident, NOW + 2_879_000)).toBe('green')
    expect(lightAt(incident, NOW + 2_881_000)).toBe('amber')
    expect(lightAt(incident, NOW + 3_599_000)).toBe('amber')
    expect(lightAt(incident, NOW + 3_601_000)).toBe('red')
  })

  it('stands still once the work is done: the limit is one for handling', () => {
    const incident = buildIncident({ ...hour, state: 'handled', handled_at: at(60), light: 'green' })
    expect(lightAt(incident, NOW + 9_000_000)).toBe('green')
  })

  it('turns amber when the server says, which over a weekend is not at 80 % of the clock', () => {
    const incident = buildIncident({ limit_from: at(0), amber_at: at(3500), due_at: at(3600), light: 'green' })
    expect(lightAt(incident, NOW + 3_400_000)).toBe('green')
    expect(lightAt(incident, NOW + 3_550_000)).toBe('amber')
  })

  it('stands still while the incident is suspended', () => {
    const incident = buildIncident({ ...hour, suspended_at: at(60), light: 'green' })
    expect(lightAt(incident, NOW + 9_000_000)).toBe('green')
  })

  it('is absent while no limit runs', () => {
    expect(lightAt(buildIncident({ limit_from: null, due_at: null, light: null }), NOW)).toBeNull()
    expect(signOf(buildIncident({ limit_from: null, due_at: null, light: null }), NOW)).toBe('none')
  })
})

describe('an urgent incident', () => {
  it('asks to be acknowledged until somebody has done so', () => {
    expect(signOf(buildIncident({ severity: 1 }), NOW)).toBe('urgent')
    expect(signOf(buildIncident({ severity: 1, acknowledged_at: at(0) }), NOW)).toBe('green')
  })

  it('asks nothing any more when it has ended', () => {
    expect(needsAcknowledgement(buildIncident({ severity: 1, state: 'void', ended_at: at(0) }))).toBe(false)
  })
})

it('time left goes below zero when the limit has passed', () => {
  expect(secondsLeft(buildIncident({ due_at: at(-90) }), NOW)).toBe(-90)
})

it('a breach is spoken of when it is likely and not there yet', () => {
  const said = [null, 0.49, 0.5, 0.874].map((breach_risk) => riskShown(buildIncident({ breach_risk }), NOW))
  expect(said).toEqual([null, null, 50, 87])
  expect(riskShown(buildIncident({ breach_risk: 1, due_at: at(-60), amber_at: at(-90) }), NOW)).toBeNull()
})
