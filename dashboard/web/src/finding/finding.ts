/** What a camera found, as its report's detail says (docs/architecture.md), read with care: older reports say less. */
import type { IncidentDetail, IncidentReport } from '@/api/types'
import type { BoxCorners, Corner } from '@/video/looks'

export const MOMENTS = ['first', 'threshold', 'latest', 'cleared'] as const
export type Moment = (typeof MOMENTS)[number]

export interface ClipNote {
  id: string
  state: 'wanted' | 'cut' | 'saved' | 'failed'
  error: string
  from_at: string | null
  until_at: string | null
}

export interface Found {
  reportId: string
  camera: { id: string; name: string; code?: string } | null
  rule: string
  zone: string
  occurredAt: string
  startedAt: string | null
  thresholdAt: string | null
  raisedAt: string | null
  clearedAt: string | null
  score: number | null
  box: BoxCorners | null
  polygon: Corner[]
  parameters: Record<string, unknown>
  measured: Record<string, unknown>
  model: { name: string; sha256: string } | null
  pictures: { moment: Moment; id: string | null; missing: string | null }[]
  clip: ClipNote | null
  judgement: Judgement | null
}

export interface Judgement {
  right: boolean
  why: string
  note?: string
  by?: string | { name: string } | null
  at?: string | null
}

/** Why a finding was wrong, in the order of their keys 1 to 6. */
export const WRONG = ['nothing_there', 'wrong_object', 'allowed_there', 'moving', 'already_known', 'bad_picture'] as const
export type Wrong = (typeof WRONG)[number]

function text(value: unknown): string | null {
  return typeof value === 'string' && value ? value : null
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function numbers<T>(value: unknown, count: number): T | null {
  return Array.isArray(value) && value.length === count && value.every((one) => typeof one === 'number') ? (value as T) : null
}

export function readFound(report: IncidentReport & { judgement?: Judgement | null }): Found {
  const detail = record(report.detail)
  const evidence = record(detail.evidence)
  const missing = record(detail.missing)
  const model = record(detail.model)
  const clip = record(detail.clip)
  const kept = MOMENTS.map((moment) => ({ moment, id: text(evidence[moment]), missing: text(missing[moment]) }))
  const pictures = kept.filter((one) => one.id || one.missing)
  return {
    reportId: report.id,
    camera: report.device ? { id: report.device.id, name: report.device.name } : null,
    rule: report.rule,
    zone: report.zone,
    occurredAt: report.occurred_at,
    startedAt: text(detail.started_at),
    thresholdAt: text(detail.threshold_at),
    raisedAt: text(detail.raised_at),
    clearedAt: text(detail.cleared_at),
    score: typeof detail.score === 'number' ? detail.score : null,
    box: numbers<BoxCorners>(detail.box, 4),
    polygon: Array.isArray(detail.polygon) ? detail.polygon.map((one) => numbers<Corner>(one, 2)).filter((one) => one !== null) : [],
    parameters: record(detail.rule_parameters),
    measured: record(detail.measured),
    model: text(model.name) ? { name: String(model.name), sha256: text(model.sha256) ?? '' } : null,
    // An older report has its one snapshot only.
    pictures: pictures.length ? pictures : report.evidence_ids.slice(0, 1).map((id) => ({ moment: 'threshold' as const, id, missing: null })),
    clip: text(clip.id) ? ({ error: '', from_at: null, until_at: null, state: 'wanted', ...clip } as ClipNote) : null,
    judgement: report.judgement ?? null,
  }
}

/** Findings of cameras in an incident, newest first. */
export function findingsOf(detail: IncidentDetail): Found[] {
  return detail.reports
    .filter((report) => report.source === 'camera' && report.rule)
    .sort((a, b) => b.occurred_at.localeCompare(a.occurred_at))
    .map(readFound)
}

/** Figures of a rule in reading order, without what is empty or nested; `all`: also what is nought or not so. */
export function plainFigures(values: Record<string, unknown>, all: boolean): [name: string, value: string][] {
  return Object.entries(values)
    .filter(([name, value]) => ['number', 'string', 'boolean'].includes(typeof value) && value !== '' && !name.endsWith('_at') && (all || Boolean(value)))
    .map(([name, value]) => [name, typeof value === 'number' ? String(Math.round(value * 100) / 100) : String(value)])
}
