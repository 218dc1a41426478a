/** The shapes of docs/architecture.md: one JSON shape for an incident everywhere. Instants are ISO-8601 in UTC. */

export type Seat = 'wall' | 'phone'
export type Role = 'operator' | 'grid_worker' | 'handling_dept' | 'engineer' | 'admin'
export type Light = 'green' | 'amber' | 'red'
export type IncidentState =
  'reported' | 'filed' | 'dispatched' | 'accepted' | 'on_site' | 'handled' | 'closed' | 'void'
export type Verdict = 'clear' | 'not_clear' | 'inconclusive'
export type ActionName =
  | 'file'
  | 'void'
  | 'dispatch'
  | 'accept'
  | 'refuse'
  | 'expire'
  | 'arrive'
  | 'handle'
  | 'check'
  | 'close'
  | 'rework'
  | 'send_back'
  | 'acknowledge'
export type Need = 'reason' | 'photo' | 'position' | 'user' | 'verdict'

export interface Person {
  id: string
  name: string
}

export interface Category {
  id: string
  zh: string
  en: string
  code: string
  standard: string
  named_person: boolean
  check_kinds: string[]
  severity?: number
}

/** Why the system suggests it: a stable code, with figures beside it. */
export interface Reason {
  code: string
  [figure: string]: unknown
}

export interface Proposal {
  action: ActionName
  user_id?: string | null
  user_name?: string | null
  reasons: Reason[]
}

export interface Incident {
  id: string
  map_id: number
  number: string
  version: number
  state: IncidentState
  category: Category
  severity: number
  lon: number
  lat: number
  cell_code: string
  area_code: string
  place: string
  area: { street?: string | null; community?: string | null; grid?: string | null }
  opened_at: string
  filed_at: string | null
  handled_at: string | null
  ended_at: string | null
  limit_from: string | null
  due_at: string | null
  acknowledged_at: string | null
  light: Light | null
  report_count: number
  assignee: Person | null
  handler: Person | null
  offered_at: string | null
  needs_operator: string | null
  proposal: Proposal | null
  cover: string | null
}

export interface IncidentReport {
  id: string
  source: string
  device: { id: string; code: string; name: string; kind: string } | null
  rule: string
  zone: string
  occurred_at: string
  received_at: string
  evidence_ids: string[]
  detail: Record<string, unknown>
  reporter: Person | string | null
}

export interface IncidentEvent {
  at: string
  action: string
  from_state: IncidentState | null
  to_state: IncidentState
  actor: string
  reason: string
  detail: Record<string, unknown>
}

export interface Assignment {
  user: Person
  reason: unknown
  offered_at: string
  answered_at: string | null
  outcome: string | null
}

export interface Check {
  id: string
  kind: string
  device: { id: string; code: string; name: string; kind: string } | null
  requested_at: string
  answered_at: string | null
  verdict: Verdict | null
  evidence_id: string | null
  detail: string
}

export interface Evidence {
  id: string
  kind: string
  taken_at: string
  width: number
  height: number
  lon: number | null
  lat: number | null
}

export interface OfferedAction {
  name: ActionName
  needs: Need[]
}

export interface IncidentDetail extends Incident {
  reports: IncidentReport[]
  events: IncidentEvent[]
  assignments: Assignment[]
  checks: Check[]
  evidence: Evidence[]
  actions: OfferedAction[]
}

export interface Candidate {
  user: Person
  distance_m: number | null
  open_tasks: number
  on_duty: boolean
  position_age_s: number | null
  chosen: boolean
  reasons: (string | Reason)[]
}

export interface Zone {
  name: string
  rule: string
  polygon: [number, number][]
  lon?: number | null
  lat?: number | null
}

export interface Metric {
  value: number | string | boolean | null
  at: string
}

export interface Device {
  id: string
  map_id: number
  code: string
  kind: string
  name: string
  lon: number
  lat: number
  cell_code: string
  status: 'ok' | 'alarm' | 'fault' | 'offline' | 'unknown'
  metrics: Record<string, Metric>
  alarms: Record<string, { cause: string; raised_at: string }>
  last_seen_at: string | null
  camera: { heading_deg: number | null; fov_deg: number | null; range_m: number | null; zones: Zone[] } | null
}

export interface Staff {
  id: string
  map_id: number
  name: string
  roles: Role[]
  on_duty: boolean
  lon: number | null
  lat: number | null
  accuracy_m: number | null
  heading_deg: number | null
  measured_at: string | null
  open_tasks: number
}

export interface Me {
  id: string
  name: string
  display_name: string
  roles: Role[]
  scope: string
  language: string
  on_duty: boolean
  responsibility_grid_code: string | null
  city: string
  timezone: string
}

export interface Summary {
  devices: number
  cameras: number
  offline: number
  last_closed_at: string | null
}

export type Change =
  | { kind: 'incident'; id: string; data: Incident | null }
  | { kind: 'device' | 'camera'; id: string; data: Device | null }
  | { kind: 'user'; id: string; data: Staff | null }

/** What the server says on the socket. */
export type LiveMessage =
  | {
      type: 'snapshot'
      seq: number
      server_at: string
      incidents: Incident[]
      devices: Device[]
      staff: Staff[]
      summary: Summary
    }
  | { type: 'delta'; seq: number; changes: Change[] }
  | {
      type: 'live'
      at: string
      devices?: (Partial<Device> & { id: string })[]
      staff?: (Partial<Staff> & { id: string })[]
    }
  | { type: 'task'; incident_id: string; kind: string; push_id: string }
  | { type: 'ping'; at: string; seq?: number; degraded_since?: string | null }
  | { type: 'degraded'; since: string | null }

export interface MapSummary {
  district: { code?: string; name: string } | string | null
  bounds: [number, number, number, number] | null
  layers: { name: string; url: string }[]
}
