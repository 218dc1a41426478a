import { describe, expect, it } from 'vitest'
import { lightAt, needsAcknowledgement, secondsLeft, signOf } from '@/model/light'
import { at, buildIncident, NOW } from './build'

const hour = { limit_from: at(0), due_at: at(3600) }

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
