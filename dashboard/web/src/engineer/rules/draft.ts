/** A rule as the form holds it, and as the server takes it. */
import type { RuleRecord, RuleType, Scope, Schema } from '@/api/things'
import type { Values } from '@/form/schema'

export interface Draft {
  name: string
  type: string
  kind: string
  area: string
  device: string
  title_zh: string
  title_en: string
  category: string
  severity: number | null
  parameters: Values
  /** Wall-clock times `HH:MM`; both empty is the whole day. */
  windowStart: string
  windowEnd: string
  /** No damping when empty. */
  dampingChanges: number | null
  dampingSpanS: number | null
  reason: string
}

export function openDraft(rule: RuleRecord | null): Draft {
  return {
    name: rule?.name ?? '',
    type: rule?.type ?? '',
    kind: rule?.scope.kind ?? '',
    area: rule?.scope.area ?? '',
    device: rule?.scope.device ?? '',
    title_zh: rule?.title_zh ?? '',
    title_en: rule?.title_en ?? '',
    category: rule?.category ?? '',
    severity: rule?.severity ?? null,
    parameters: rule?.parameters ?? {},
    windowStart: rule?.window?.start.slice(0, 5) ?? '',
    windowEnd: rule?.window?.end.slice(0, 5) ?? '',
    dampingChanges: rule?.damping?.changes ?? null,
    dampingSpanS: rule?.damping?.span_s ?? null,
    reason: '',
  }
}

/** What is empty means any and is left out. */
export function scopeOf(draft: Draft): Scope {
  const scope: Scope = {}
  if (draft.kind) scope.kind = draft.kind
  if (draft.area) scope.area = draft.area
  if (draft.device) scope.device = draft.device
  return scope
}

/** The rule itself, as it is saved and as it is tried on stored data. */
export function writeRule(draft: Draft): Record<string, unknown> {
  const window = draft.windowStart && draft.windowEnd ? { start: draft.windowStart, end: draft.windowEnd } : null
  const damping = draft.dampingChanges && draft.dampingSpanS ? { changes: draft.dampingChanges, span_s: draft.dampingSpanS } : null
  return {
    name: draft.name.trim(),
    scope: scopeOf(draft),
    type: draft.type,
    parameters: draft.parameters,
    title_zh: draft.title_zh.trim(),
    title_en: draft.title_en.trim(),
    category: draft.category,
    severity: draft.severity,
    window,
    damping,
  }
}

/** The schema of a type's parameters; a kind's own rules take that kind's settings. */
export function schemaOf(type: RuleType | null, kind: string): Schema {
  if (!type) return {}
  return type.kinds && Object.keys(type.kinds).length ? (type.kinds[kind]?.schema ?? {}) : type.schema
}
