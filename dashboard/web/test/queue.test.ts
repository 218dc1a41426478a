import { describe, expect, it } from 'vitest'
import { alarmLoad, countChips, groupEntries, matchesSearch, orderQueue, whyOf } from '@/model/queue'
import { at, buildIncident, NOW } from './build'

const urgent = buildIncident({ severity: 1, due_at: at(1800) })
const decide = buildIncident({ needs_operator: 'check', state: 'handled' })
const over = buildIncident({ limit_from: at(-3600), due_at: at(-60) })
const near = buildIncident({ limit_from: at(-3600), amber_at: at(-480), due_at: at(300) })
const plain = buildIncident({ limit_from: at(-60), due_at: at(3600) })
const closed = buildIncident({ state: 'closed', ended_at: at(-5) })
const all = [plain, near, over, decide, closed, urgent]

describe('the queue', () => {
  it('puts on top what waits for a decision, and says why', () => {
    const queue = orderQueue(all, 'all', '', NOW)
    expect(queue.map((entry) => entry.incident)).toEqual([urgent, decide, over, near, plain])
    expect(queue.map((entry) => entry.why)).toEqual(['urgent', 'operator', 'over', 'near', 'order'])
  })

  it('moves an incident up when its time runs out, without a message', () => {
    expect(whyOf(plain, NOW)).toBe('order')
    expect(whyOf(plain, NOW + 3_700_000)).toBe('over')
  })

  it('among equals takes the one with less time left', () => {
    const soon = buildIncident({ due_at: at(1200) })
    const late = buildIncident({ due_at: at(3000) })
    expect(orderQueue([late, soon], 'all', '', NOW).map((entry) => entry.incident)).toEqual([soon, late])
  })

  it('has chips that count what they show', () => {
    const counts = countChips(all, NOW)
    expect(counts).toEqual({ all: 5, mine: 2, over: 1, near: 1, check: 1, field: 4 })
    for (const chip of ['mine', 'over', 'near', 'check', 'field'] as const) {
      expect(orderQueue(all, chip, '', NOW)).toHaveLength(counts[chip])
    }
  })
})

describe('searching', () => {
  it('finds by number, place, category in either language and cell, all words needed', () => {
    expect(matchesSearch(plain, plain.number.slice(-4))).toBe(true)
    expect(matchesSearch(plain, '武林路 parking')).toBe(true)
    expect(matchesSearch(plain, '330105012003045')).toBe(true)
    expect(matchesSearch(plain, '武林路 smoke')).toBe(false)
  })
})

describe('a flood', () => {
  it('is grouped by category and community, each group showing its worst light', () => {
    const elsewhere = buildIncident({ area: { street: '天水街道', community: '天水社区', grid: '' } })
    const groups = groupEntries(orderQueue([plain, over, elsewhere], 'all', '', NOW))
    expect(groups).toHaveLength(2)
    expect(groups[0]?.entries.map((entry) => entry.incident)).toEqual([over, plain])
    expect(groups[0]?.sign).toBe('red')
  })

  it('is measured by what opened in the last ten minutes', () => {
    const old = buildIncident({ opened_at: at(-601) })
    expect(alarmLoad([old, plain, urgent], NOW)).toBe(2)
  })
})

describe('a flood', () => {
  it('is grouped by the cause that the server names, the rest by category, and nothing is left out', () => {
    const all = Array.from({ length: 40 }, () => buildIncident())
    const entries = orderQueue(all, 'all', '', NOW)
    const behind = all.slice(0, 25).map((one) => one.id)
    const groups = groupEntries(entries, [{ by: 'gateway', key: 'GW-1', title: '网关 GW-1', count: 25, incident_ids: behind }])
    const named = groups.find((group) => group.title === '网关 GW-1')
    expect(named?.entries).toHaveLength(25)
    expect(groups.flatMap((group) => group.entries)).toHaveLength(40)
  })
})
