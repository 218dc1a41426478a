/** A command's way, for people: what happened when, by whom, and what comes next. */
import type { Command, CommandState, Person } from '@/api/things'
import { t, tx } from '@/i18n'

export const ENDED: CommandState[] = ['verified', 'refused', 'expired', 'failed', 'cancelled']
const WAY: CommandState[] = ['requested', 'approved', 'sent', 'acknowledged', 'verified']

export interface Step {
  state: CommandState
  at: string | null
  who: string
  /** What was said there: an interlock's code, the device's words. */
  detail: unknown
  done: boolean
  bad: boolean
}

export function isEnded(command: Pick<Command, 'state'>): boolean {
  return ENDED.includes(command.state)
}

export function personName(person: Person | undefined): string {
  const name = (typeof person === 'string' ? person : person?.name) ?? ''
  if (name === 'system') return t('actor.system')
  return name === 'device' ? tx('source', 'device') : name
}

export function isPerson(person: Person | undefined, me: { id: string; display_name: string; name: string } | null): boolean {
  if (!person || !me) return false
  if (typeof person !== 'string') return person.id === me.id
  return person === me.id || person === me.display_name || person === me.name
}

/** Steps that were taken, then those still to come; a command that ended badly has nothing more to come. */
export function stepsOf(command: Command): Step[] {
  const taken: Step[] = command.events.map((event) => ({
    state: event.state,
    at: event.at,
    who: personName(event.actor),
    detail: event.detail,
    done: true,
    bad: ['refused', 'expired', 'failed', 'cancelled'].includes(event.state),
  }))
  if (isEnded(command)) return taken
  const reached = Math.max(...taken.map((step) => WAY.indexOf(step.state)), 0)
  const ahead = WAY.slice(reached + 1).map((state) => ({ state, at: null, who: '', detail: null, done: false, bad: false }))
  return [...taken, ...ahead]
}

/** Newest knowledge wins: an answer of a request and the socket may cross. */
export function mergeCommands(known: Command[], news: Iterable<Command>): Command[] {
  const byId = new Map(known.map((one) => [one.id, one]))
  for (const one of news) {
    const old = byId.get(one.id)
    if (!old || (one.events?.length ?? 0) >= (old.events?.length ?? 0)) byId.set(one.id, one)
  }
  return [...byId.values()].sort((a, b) => b.requested_at.localeCompare(a.requested_at))
}
