import { describe, expect, it } from 'vitest'
import type { Item } from '@/phone/outbox'
import { myRecent, myTasks } from '@/phone/tasks'
import { at, buildIncident, NOW } from './build'

const ME = 'me'
const mine = { assignee: { id: ME, name: '陈晓' } }

function queue(incident_id: string, action: 'accept' | 'handle' | 'refuse'): Item {
  const common = { photo: null, evidence_id: null, fix: null, reason: '', note: '' }
  return { kind: 'action', id: action, queued_at: new Date(NOW).toISOString(), incident_id, action, ...common }
}

describe('the tasks of a worker', () => {
  it("are those assigned to them, not other people's and not what has ended", () => {
    const task = buildIncident(mine)
    const others = buildIncident({ assignee: { id: 'other', name: '李' } })
    const ended = buildIncident({ ...mine, state: 'closed' })
    expect(myTasks([others, task, ended], ME, []).map((one) => one.incident)).toEqual([task])
    expect(myTasks([task], undefined, [])).toEqual([])
  })

  it('begin with the urgent one, then what was begun, then offers by the time that is left', () => {
    const offerLate = buildIncident({ ...mine, due_at: at(9000) })
    const offerSoon = buildIncident({ ...mine, due_at: at(900) })
    const begun = buildIncident({ ...mine, state: 'on_site' })
    const urgent = buildIncident({ ...mine, severity: 1 })
    const order = myTasks([offerLate, begun, offerSoon, urgent], ME, []).map((one) => one.incident)
    expect(order).toEqual([urgent, begun, offerSoon, offerLate])
  })

  it('move on at once although what was done waits to be sent', () => {
    const task = buildIncident(mine)
    expect(myTasks([task], ME, [queue(task.id, 'accept')])[0]).toMatchObject({ state: 'accepted', waiting: true })
    expect(myTasks([task], ME, [queue(task.id, 'refuse')])).toEqual([])
  })

  it('stay in sight after they were done, with what became of them', () => {
    const task = buildIncident({ ...mine, state: 'on_site' })
    const checked = buildIncident({ state: 'closed', handler: { id: ME, name: '陈晓' }, handled_at: at(-60) })
    const recent = myRecent([task, checked], ME, [queue(task.id, 'handle')])
    expect(recent.map((one) => one.state)).toEqual(['handled', 'closed'])
  })

  it('come back for rework as a task, not as something done', () => {
    const again = buildIncident({ ...mine, state: 'dispatched', handler: { id: ME, name: '陈晓' } })
    expect(myTasks([again], ME, [])).toHaveLength(1)
    expect(myRecent([again], ME, [])).toEqual([])
  })
})
