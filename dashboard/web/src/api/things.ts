/**
 * Shapes of the routes about devices, rules, commands, the river and parking, after docs/architecture.md.
 * Instants are ISO-8601 in UTC.
 */
import type { components } from './generated'
import type { Device } from './types'

type Schemas = components['schemas']

export interface Named {
  id: string
  code?: string
  name: string
  kind?: string
}

/** A person as the server names them: by name, or by id and name. */
export type Person = { id: string | null; name: string } | string | null

export type Registry = Schemas['RegistryView']

export type Credential = Schemas['CredentialView']

export interface DeviceExtras {
  enabled?: boolean
  parent_id?: string | null
  clock_offset_s?: number | null
  water?: Water | null
}

export type DeviceDetail = Device &
  DeviceExtras & {
    registry?: Registry | null
    credentials?: Credential[]
  }

export type IssuedKey = Schemas['IssuedKey']

export type ImportRow = Schemas['RowView']

export type ImportReport = Schemas['ImportView']

export type CheckItem = Schemas['CheckView']

export interface ConsoleMessage {
  type: 'message'
  at: string
  way: string
  topic: string
  raw: unknown
  decoded: unknown[] | null
  refused: string | null
  detail: string
}

export type CurvePoint = Schemas['PointView']

export type Curve = Schemas['Readings']

export type Forecast = Schemas['ForecastView']

export type WaterItem = Schemas['WaterItemView']

/** `missing`: items of the standard that were not measured of late, so the class may be better than the water is. */
export type Water = Schemas['WaterView']

export type DeadLetter = Schemas['DeadLetterView']

export type ReasonCount = Schemas['ReasonView']

export type Replayed = Schemas['ReplayView']

export interface Interlock {
  code: string
  ok: boolean | null
  params?: Record<string, unknown>
}

/** JSON Schema, as far as the forms here read it. */
export interface Schema {
  type?: string | string[]
  title?: string
  description?: string
  properties?: Record<string, Schema>
  required?: string[]
  enum?: unknown[]
  const?: unknown
  default?: unknown
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
  items?: Schema
  prefixItems?: Schema[]
  minItems?: number
  maxItems?: number
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  $ref?: string
  /** Where a text is one of something that the pages know: `metric`. */
  'x-choice'?: string
  $defs?: Record<string, Schema>
}

export interface AvailableCommand {
  name: string
  title_zh: string
  title_en: string
  schema: Schema
  second_person: boolean
  interlocks: Interlock[]
}

export type CommandState =
  | 'requested'
  | 'approved'
  | 'sent'
  | 'acknowledged'
  | 'verified'
  | 'refused'
  | 'expired'
  | 'failed'
  | 'cancelled'

export interface CommandEvent {
  at: string
  state: CommandState
  actor: Person
  detail: unknown
}

export interface Command {
  id: string
  device: Named
  name: string
  parameters: Record<string, unknown>
  reason: string
  state: CommandState
  requested_by: Person
  requested_at: string
  approved_by: Person
  approved_at: string | null
  sent_at: string | null
  acknowledged_at: string | null
  ended_at: string | null
  expires_at: string | null
  interlocks: Interlock[]
  outcome: { code?: string; detail?: unknown } | null
  events: CommandEvent[]
  second_person?: boolean
}

export type DeviceLock = Schemas['LockView']

export interface CommandDesk {
  available: AvailableCommand[]
  recent: Command[]
  locks?: DeviceLock[]
}

export type Lot = Schemas['LotView']

/** Plates come masked. `payment`: of the statement, null when nothing is owed. */
export type ParkingSession = Schemas['StayView']

export type PlateBinding = Schemas['BindingView']

/** Name and number come masked; with the id of one that is there, null keeps what it is. */
export interface Contact {
  id?: string | null
  order: number
  role: 'resident' | 'neighbour' | 'community'
  name: string | null
  phone: string | null
  language?: string
}

export type Consent = Schemas['ConsentBody']

export type Home = Schemas['HomeView']

export type Shelf = Schemas['ShelfView']

export interface RuleType {
  name: string
  title_zh: string
  title_en: string
  schema: Schema
  category?: string
  severity?: number | null
  /** Of `built_in`: the rules that each kind brings, with the schema of its settings. */
  kinds?: Record<string, { rules: { name: string; title_zh: string; title_en: string }[]; schema: Schema }>
}

export type RuleMode = 'off' | 'monitor' | 'live'

/** What is absent means any. */
export interface Scope {
  kind?: string | null
  area?: string | null
  device?: string | null
}

export type RuleRecord = Schemas['RuleView']

export type Finding = Schemas['FindingView']

export type BackTestResult = Schemas['BackTestView']

export interface MappingPreview {
  messages: { device: string; topic: string; payload: Record<string, unknown>; readings: Record<string, number>; problem: string }[]
  problems: unknown[]
}

export type Maintenance = Schemas['MaintenanceView']

export type FloodGroup = Schemas['FloodGroup']

export type Flood = Schemas['FloodView']
