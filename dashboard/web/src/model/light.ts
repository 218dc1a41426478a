import type { Incident, Light } from '@/api/types'

/** Light as drawn: `urgent` is an urgent incident that nobody has acknowledged; `none` has no limit running. */
export type Sign = Light | 'urgent' | 'none'

export const SIGN_RANK: Record<Sign, number> = { none: 0, green: 1, amber: 2, red: 3, urgent: 4 }

export function isOpen(incident: Incident): boolean {
  return incident.state !== 'closed' && incident.state !== 'void'
}

/**
 * The light at this instant: the row says what it was when it last changed, and time passes without a message. Where it turns
 * is the server's word: 80 % of counted time is not 80 % of the clock's.
 */
export function lightAt(incident: Incident, nowMs: number): Light | null {
  if (!isOpen(incident) || incident.state === 'handled' || incident.suspended_at) return incident.light
  if (!incident.due_at) return incident.light
  if (nowMs > Date.parse(incident.due_at)) return 'red'
  return incident.amber_at && nowMs > Date.parse(incident.amber_at) ? 'amber' : 'green'
}

/** How likely the limit is missed, in percent; null when it is not worth a word: unlikely, unknown, or missed already. */
export function riskShown(incident: Incident, nowMs: number): number | null {
  const risk = incident.breach_risk
  return risk === null || risk < 0.5 || lightAt(incident, nowMs) === 'red' ? null : Math.round(risk * 100)
}

export function needsAcknowledgement(incident: Incident): boolean {
  return incident.severity === 1 && isOpen(incident) && !incident.acknowledged_at && incident.state !== 'handled'
}

export function signOf(incident: Incident, nowMs: number): Sign {
  if (needsAcknowledgement(incident)) return 'urgent'
  return lightAt(incident, nowMs) ?? 'none'
}

/** Seconds until the limit; negative when it has passed; null when none runs. */
export function secondsLeft(incident: Incident, nowMs: number): number | null {
  return incident.due_at ? (Date.parse(incident.due_at) - nowMs) / 1000 : null
}
