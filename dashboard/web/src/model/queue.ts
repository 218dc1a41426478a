import type { FloodGroup } from '@/api/things'
import type { Incident } from '@/api/types'
import { isOpen, lightAt, needsAcknowledgement, SIGN_RANK, signOf, type Sign } from './light'

/** Why an incident stands where it stands: the first that applies. */
export type Why = 'urgent' | 'operator' | 'over' | 'near' | 'severe' | 'order'

export const CHIPS = ['all', 'mine', 'over', 'near', 'check', 'field'] as const
export type Chip = (typeof CHIPS)[number]

export interface Entry {
  incident: Incident
  sign: Sign
  why: Why
}

export interface Group {
  key: string
  /** What the server calls it in a flood; null: by category and community. */
  title: string | null
  sign: Sign
  entries: Entry[]
}

/** Above this many, the queue is grouped by category and community: nobody reads a thousand lines. */
export const FLOOD_FROM = 30

const WHY_RANK: Record<Why, number> = { urgent: 0, operator: 1, over: 2, near: 3, severe: 4, order: 5 }

export function whyOf(incident: Incident, nowMs: number): Why {
  if (needsAcknowledgement(incident)) return 'urgent'
  if (incident.needs_operator) return 'operator'
  const light = lightAt(incident, nowMs)
  if (light === 'red' && incident.state !== 'handled') return 'over'
  if (light === 'amber' && incident.state !== 'handled') return 'near'
  return incident.severity <= 2 ? 'severe' : 'order'
}

/** What waits longest for a decision first; equal ones by the time that is left, then the oldest. */
export function compareEntries(a: Entry, b: Entry): number {
  return (
    WHY_RANK[a.why] - WHY_RANK[b.why] ||
    a.incident.severity - b.incident.severity ||
    (a.incident.due_at ?? '9').localeCompare(b.incident.due_at ?? '9') ||
    a.incident.opened_at.localeCompare(b.incident.opened_at) ||
    a.incident.number.localeCompare(b.incident.number)
  )
}

export function matchesChip(incident: Incident, chip: Chip, nowMs: number): boolean {
  switch (chip) {
    case 'all':
      return true
    case 'mine':
      return incident.needs_operator !== null || needsAcknowledgement(incident)
    case 'over':
      return lightAt(incident, nowMs) === 'red'
    case 'near':
      return lightAt(incident, nowMs) === 'amber'
    case 'check':
      return incident.state === 'handled'
    case 'field':
      return ['dispatched', 'accepted', 'on_site'].includes(incident.state)
  }
}

function words(incident: Incident): string {
  const { category, area } = incident
  return [
    incident.number,
    category.zh,
    category.en,
    category.code,
    incident.place,
    incident.cell_code,
    area.street,
    area.community,
    incident.assignee?.name,
  ]
    .join(' ')
    .toLowerCase()
}

/** Every word of the search must be found somewhere. */
export function matchesSearch(incident: Incident, search: string): boolean {
  const wanted = search.toLowerCase().split(/\s+/).filter(Boolean)
  if (wanted.length === 0) return true
  const text = words(incident)
  return wanted.every((word) => text.includes(word))
}

export function orderQueue(incidents: Iterable<Incident>, chip: Chip, search: string, nowMs: number): Entry[] {
  const entries: Entry[] = []
  for (const incident of incidents) {
    if (!isOpen(incident) || !matchesChip(incident, chip, nowMs) || !matchesSearch(incident, search)) continue
    entries.push({ incident, sign: signOf(incident, nowMs), why: whyOf(incident, nowMs) })
  }
  return entries.sort(compareEntries)
}

export function countChips(incidents: Iterable<Incident>, nowMs: number): Record<Chip, number> {
  const counts = Object.fromEntries(CHIPS.map((chip) => [chip, 0])) as Record<Chip, number>
  for (const incident of incidents) {
    if (!isOpen(incident)) continue
    for (const chip of CHIPS) if (matchesChip(incident, chip, nowMs)) counts[chip] += 1
  }
  return counts
}

/**
 * Groups keep the order of their first entry, so the most pressing group is on top; the sign is the worst inside.
 *
 * In a flood the server names groups with a common cause (a gateway, a cell); the others go by category and community.
 * No entry is left out.
 */
export function groupEntries(entries: Entry[], flood: FloodGroup[] = []): Group[] {
  const named = new Map<string, FloodGroup>()
  for (const one of flood) for (const id of one.incident_ids) if (!named.has(id)) named.set(id, one)
  const groups = new Map<string, Group>()
  for (const entry of entries) {
    const cause = named.get(entry.incident.id)
    const key = cause ? `${cause.by}|${cause.key}` : `${entry.incident.category.id}|${entry.incident.area.community ?? ''}`
    const group = groups.get(key) ?? { key, title: cause?.title ?? null, sign: entry.sign, entries: [] }
    group.entries.push(entry)
    if (SIGN_RANK[entry.sign] > SIGN_RANK[group.sign]) group.sign = entry.sign
    groups.set(key, group)
  }
  return [...groups.values()]
}

/** Alarms opened within the last ten minutes; ISA-18.2 calls more than ten for one operator a flood. */
export function alarmLoad(incidents: Iterable<Incident>, nowMs: number): number {
  let count = 0
  for (const incident of incidents) if (nowMs - Date.parse(incident.opened_at) < 600_000) count += 1
  return count
}
