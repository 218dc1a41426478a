/** Which tasks are mine, in which order, and how they stand when what waits to be sent is counted in. */
import type { ActionName, Incident, IncidentState } from '@/api/types'
import type { Item } from './outbox'

const AFTER: Partial<Record<ActionName, IncidentState>> = {
  accept: 'accepted',
  arrive: 'on_site',
  handle: 'handled',
}
/** These take the task away from me. */
const LEAVES: ReadonlySet<string> = new Set(['refuse', 'send_back', 'verify'])
const WORK: IncidentState[] = ['dispatched', 'accepted', 'on_site']

/** Whoever is asked to verify a report has a task before it is filed. */
function isMine(incident: Incident, myId: string): boolean {
  if (incident.assignee?.id === myId) return WORK.includes(incident.state)
  return incident.state === 'reported' && (incident as { verifier?: { id: string } | null }).verifier?.id === myId
}

export interface Task {
  incident: Incident
  /** The state with what waits in the outbox. */
  state: IncidentState
  /** Something about it waits to be sent. */
  waiting: boolean
}

export function projectTask(incident: Incident, outbox: Item[]): Task | null {
  let state = incident.state
  let waiting = false
  for (const item of outbox) {
    if (item.kind !== 'action' || item.incident_id !== incident.id) continue
    if (LEAVES.has(item.action)) return null
    state = AFTER[item.action] ?? state
    waiting = true
  }
  return { incident, state, waiting }
}

const RANK: Partial<Record<IncidentState, number>> = { on_site: 0, accepted: 1, dispatched: 2 }

/** Urgent ones first, then what was begun, then offers; within that by the time that is left. */
export function compareTasks(a: Task, b: Task): number {
  const urgent = Number(a.incident.severity !== 1) - Number(b.incident.severity !== 1)
  return (
    urgent ||
    (RANK[a.state] ?? 9) - (RANK[b.state] ?? 9) ||
    (a.incident.due_at ?? '9').localeCompare(b.incident.due_at ?? '9') ||
    a.incident.opened_at.localeCompare(b.incident.opened_at)
  )
}

export function myTasks(incidents: Iterable<Incident>, myId: string | undefined, outbox: Item[]): Task[] {
  const tasks: Task[] = []
  for (const incident of incidents) {
    if (!myId || !isMine(incident, myId)) continue
    const task = projectTask(incident, outbox)
    if (task && (task.state === 'reported' || WORK.includes(task.state))) tasks.push(task)
  }
  return tasks.sort(compareTasks)
}

/** What became of what I did: handled by me, newest first. */
export function myRecent(incidents: Iterable<Incident>, myId: string | undefined, outbox: Item[]): Task[] {
  const done: Task[] = []
  for (const incident of incidents) {
    const task = projectTask(incident, outbox)
    const mine = incident.handler?.id === myId || (incident.assignee?.id === myId && task?.state === 'handled')
    if (mine && task && !WORK.includes(task.state)) done.push(task)
  }
  return done.sort((a, b) => (b.incident.handled_at ?? '9').localeCompare(a.incident.handled_at ?? '9')).slice(0, 10)
}
