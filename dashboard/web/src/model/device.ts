import type { Device, Metric } from '@/api/types'
import { t } from '@/i18n'

/** Every kind, in the order in which people look for them. */
export const KINDS = [
  'camera',
  'smoke_alarm',
  'door_sensor',
  'access_door',
  'water_meter',
  'river_sluice',
  'parking_gate',
  'siren',
  'gateway',
] as const

/** A device that was not heard for so long is shown as silent even before the server has said so. */
export const SILENT_AFTER_S: Record<string, number> = { camera: 120 }
const SILENT_AFTER_DEFAULT_S = 3600

export type Look = 'ok' | 'alarm' | 'fault' | 'offline' | 'unknown'

export function deviceLook(device: Device, nowMs: number): Look {
  if (device.status !== 'ok') return device.status
  if (!device.last_seen_at) return 'unknown'
  const limit = SILENT_AFTER_S[device.kind] ?? SILENT_AFTER_DEFAULT_S
  return (nowMs - Date.parse(device.last_seen_at)) / 1000 > limit ? 'offline' : 'ok'
}

const UNITS: [suffix: string, unit: string][] = [
  ['_m3_s', 'm³/s'],
  ['_m3s', 'm³/s'],
  ['_m3_h', 'm³/h'],
  ['_m3', 'm³'],
  ['_l_min', 'L/min'],
  ['_l_h', 'L/h'],
  ['_hours', 'h'],
  ['_h', 'h'],
  ['_us_cm', 'µS/cm'],
  ['_db_m', 'dB/m'],
  ['_mg_l', 'mg/L'],
  ['_ntu', 'NTU'],
  ['_dbm', 'dBm'],
  ['_dbfs', 'dBFS'],
  ['_percent', '%'],
  ['_pct', '%'],
  ['_fen', '分'],
  ['_deg', '°'],
  ['_m2', ''], // said in the name
  ['_mm', 'mm'],
  ['_ms', 'ms'],
  ['_m', 'm'],
  ['_s', 's'],
  ['_c', '°C'],
  ['_v', 'V'],
  ['_mv', 'mV'],
  ['_a', 'A'],
  ['_kpa', 'kPa'],
  ['_mpa', 'MPa'],
]

/** Names carry their unit: `level_m` is metres. */
export function unitOf(metric: string): string {
  return UNITS.find(([suffix]) => metric.endsWith(suffix))?.[1] ?? ''
}

/** Readings are numbers in the API; these say yes or no. */
const FLAGS = new Set(['open', 'barrier_open', 'fault', 'local_control', 'sounding', 'valve_open', 'forced', 'opened', 'refused', 'on_battery', 'vehicle_present', 'barrier_held', 'gate_moving', 'gate_fault'])

export function metricText(name: string, metric: Metric): string {
  const { value } = metric
  if (FLAGS.has(name)) return t(value ? 'flag.yes' : 'flag.no')
  const rounded = Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1)
  return [rounded, unitOf(name)].filter(Boolean).join(' ')
}
