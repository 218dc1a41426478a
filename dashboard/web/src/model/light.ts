import type { Incident, Light } from '@/api/types'

/** Light as drawn: `urgent` is an urgent incident that nobody has acknowledged; `none` has no limit running. */
export type Sign = Light | 'urgent' | 'none'

/** Amber begins here: the share of the limit that is used (DOMAIN: lights). */
export const AMBER_FROM = 0.8

export const SIGN_RANK: Record<Sign, number> = { none: 0, green: 1, amber: 2, red: 3, urgent: 4 }

export function isOpen(incident: Incident): boolean {
  return incident.state !== 'closed' && incident.state !== 'void'
}

/** Share of the time limit that is used, or null when none runs. */
export function shareUsed(incident: Incident, nowMs: number): number | null {
  if (!incident.due_at || !incident.limit_from) return null
  const from = Date.parse(incident.limit_from)
  const due = Date.parse(incident.due_at)
  return due > from ? (nowMs - from) / (due - from) : 1
}

/** The light at this instant: the row says what it was when it last changed, and time passes without a message. */
export function lightAt(incident: Incident, nowMs: number): Light | null {
  if (!isOpen(incident) || incident.state === 'handled') return incident.light
  const share = shareUsed(incident, nowMs)
  if (share === null) return incident.light
  if (share > 1) return 'red'
  return share >= AMBER_FROM ? 'amber' : 'green'
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
