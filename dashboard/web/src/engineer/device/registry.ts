/** What of a device's record is edited here, and which of it a form changed. */
import type { DeviceDetail } from '@/api/things'

export const TEXT_FIELDS = [
  'component_code',
  'owner_unit',
  'competent_unit',
  'maintenance_unit',
  'maker',
  'model',
  'serial',
  'building',
  'floor',
  'household',
] as const

export type TextField = (typeof TEXT_FIELDS)[number]
export type Draft = Record<TextField | 'name' | 'lon' | 'lat' | 'crs' | 'settings', string> & { enabled: boolean }
export const SYSTEMS = ['EPSG:4490', 'EPSG:4326', 'gcj02', 'bd09'] as const

export function openDraft(device: DeviceDetail): Draft {
  const { registry } = device
  const texts = Object.fromEntries(TEXT_FIELDS.map((name) => [name, registry?.[name] ?? ''])) as Record<TextField, string>
  return {
    ...texts,
    name: device.name,
    lon: String(device.lon),
    lat: String(device.lat),
    crs: 'EPSG:4490',
    settings: JSON.stringify(registry?.settings ?? {}, null, 2),
    enabled: registry?.enabled ?? true,
  }
}

/** Only what differs is sent, so that two people can change different things. Throws SyntaxError for settings that are no JSON. */
export function changedFields(device: DeviceDetail, draft: Draft): Record<string, unknown> {
  const before = openDraft(device)
  const changes: Record<string, unknown> = {}
  for (const name of [...TEXT_FIELDS, 'name'] as const) if (draft[name].trim() !== before[name]) changes[name] = draft[name].trim()
  if (draft.enabled !== before.enabled) changes.enabled = draft.enabled
  if (draft.lon !== before.lon || draft.lat !== before.lat) {
    Object.assign(changes, { lon: Number(draft.lon), lat: Number(draft.lat), crs: draft.crs })
  }
  if (draft.settings.trim() !== before.settings) changes.settings = JSON.parse(draft.settings) as unknown
  return changes
}
