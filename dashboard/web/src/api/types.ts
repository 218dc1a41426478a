/**
 * The shapes of the API. Those of HTTP are generated from dashboard/openapi.json (`npm run types`, part of every build);
 * what the socket says is written here after docs/architecture.md. Instants are ISO-8601 in UTC.
 */
import type { components } from './generated'
import type { VisionSummary } from '@/video/notice'
import type { Command, DeviceExtras } from './things'

type Schemas = components['schemas']

export type Seat = Schemas['Seat']
export type Role = Schemas['Role']
export type Light = Schemas['Light']
export type IncidentState = Schemas['IncidentState']
export type Verdict = Schemas['Verdict']
export type ActionName = Schemas['Action']
export type Need = Schemas['ActionOut']['needs'][number]

export type Category = Schemas['CategoryOut']
export type CategoryFull = Schemas['CategoryFull']
export type Incident = Schemas['IncidentOut']
export type IncidentReport = Schemas['ReportOut']
export type Evidence = Schemas['EvidenceOut']
/** What this reader may do now; the schema leaves the name a text. */
export type OfferedAction = Schemas['ActionOut'] & { name: ActionName }
export type IncidentDetail = Omit<Schemas['IncidentDetail'], 'actions'> & { actions: OfferedAction[] }
export type IncidentPage = Schemas['IncidentPage']
export type Candidate = Schemas['CandidateOut']

export type Metric = Schemas['MetricView']
export type DeviceStatus = 'ok' | 'alarm' | 'fault' | 'offline' | 'unknown'
export type Device = Omit<Schemas['DeviceView'], 'status' | keyof DeviceExtras> & DeviceExtras & { status: DeviceStatus }
export type Readings = Schemas['Readings']
export type Staff = Schemas['StaffView']
export type Me = Schemas['Me']
export type MapSummary = Schemas['MapSummary']

export interface Summary {
  devices: number
  cameras: number
  offline: number
  last_closed_at: string | null
  /** Of the cameras' detector; absent on a server without one. */
  vision?: VisionSummary | null
}

export type Change =
  | { kind: 'incident'; id: string; data: Incident | null }
  | { kind: 'device' | 'camera'; id: string; data: Device | null }
  | { kind: 'user'; id: string; data: Staff | null }
  | { kind: 'command'; id: string; data: Command | null }

/** What the server says on the socket. */
export type LiveMessage =
  | {
      type: 'snapshot'
      seq: number
      server_at: string
      incidents: Incident[]
      devices: Device[]
      staff: Staff[]
      commands?: Command[]
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
