/** One builder per noun; what a test does not say is ordinary. */
import type { Incident, LiveMessage } from '@/api/types'

export const NOW = Date.parse('2026-11-20T08:00:00Z')

export function at(secondsFromNow: number): string {
  return new Date(NOW + secondsFromNow * 1000).toISOString()
}

let count = 0

export function buildIncident(changes: Partial<Incident> = {}): Incident {
  count += 1
  return {
    id: `incident-${count}`,
    map_id: count,
    number: `20261120-${String(count).padStart(6, '0')}`,
    version: 1,
    state: 'dispatched',
    category: {
      id: 'illegal_parking',
      zh: '机动车乱停放',
      en: 'Illegal parking',
      code: '09009',
      standard: 'GB/T 47678.5',
      named_person: false,
      check_kinds: ['camera', 'person'],
    },
    severity: 3,
    lon: 120.17,
    lat: 30.28,
    cell_code: '330105012003045',
    area_code: '330105012003',
    place: '武林路 86 号',
    area: { street: '武林街道', community: '武林社区', grid: '第 3 网格' },
    opened_at: at(-60),
    filed_at: at(-60),
    handled_at: null,
    ended_at: null,
    limit_from: at(-60),
    due_at: at(3540),
    amber_at: at(2820),
    limit: null,
    breach_risk: null,
    acknowledged_at: null,
    light: 'green',
    report_count: 1,
    assignee: null,
    handler: null,
    offered_at: null,
    needs_operator: null,
    proposal: null,
    cover: null,
    suspended_at: null,
    suspended_until: null,
    supervision: 0,
    level: 1,
    appeal: null,
    extension_asked: false,
    extensions: 0,
    verifier: null,
    parent_id: null,
    merged_into: null,
    split_from: null,
    ...changes,
  }
}

export function buildSnapshot(seq: number, incidents: Incident[] = []): LiveMessage {
  return {
    type: 'snapshot',
    seq,
    server_at: at(0),
    incidents,
    devices: [],
    staff: [],
    summary: { devices: 0, cameras: 0, offline: 0, last_closed_at: null },
  }
}

export function buildDelta(seq: number, incident: Incident): LiveMessage {
  return { type: 'delta', seq, changes: [{ kind: 'incident', id: incident.id, data: incident }] }
}
