import { hasText, t, tx } from '@/i18n'
import { distance, span } from './clock'

/** Words for why somebody was or was not chosen: `{code, …figures}`, or the bare code. */
export function reasonText(reason: unknown): string {
  if (typeof reason === 'string') return tx('reason', reason)
  if (typeof reason !== 'object' || reason === null) return ''
  const { code, ...figures } = reason as { code?: string } & Record<string, unknown>
  const params: Record<string, unknown> = { ...figures }
  for (const [name, value] of Object.entries(figures)) {
    if (typeof value !== 'number') continue
    if (name.endsWith('_m')) params[name] = distance(value)
    if (name.endsWith('_s')) params[name] = span(value)
  }
  if (typeof figures.said === 'string') params.said = saidText(figures.said) || tx('verdict', 'inconclusive')
  const text = tx('reason', code, params)
  // A figure that came as null leaves its gap in the sentence: the sentence without figures is then better.
  return /\{\w+\}|null/.test(text) ? tx('reason_short', code) : text
}

/** What a checking device said: a code, or a sentence of ours that has a translation; else as it came. */
export function saidText(said: string): string {
  const code = said.toLowerCase().replace(/[^a-z]+/g, '_').replace(/^_|_$/g, '')
  return hasText('said', code) ? tx('said', code) : said
}

/** Who acted: a person's name, the system, or a source with its name as in "camera 天水-07". */
export function actorText(actor: string): string {
  if (actor === 'dispatch' || actor === 'system') return t('actor.system')
  const [, source, name] = /^([a-z_]+) (.+)$/.exec(actor) ?? []
  if (source === 'sensor') return t('actor.sensor', { name })
  return source && name && hasText('source', source) ? `${tx('source', source)} ${name}` : actor
}

/** The reasons inside an assignment's record, or a list of them as it is. */
export function reasonsOf(record: unknown): unknown[] {
  if (Array.isArray(record)) return record
  const kept = (record as { reasons?: unknown } | null)?.reasons
  return Array.isArray(kept) ? kept : []
}

export function joinReasons(record: unknown): string {
  return reasonsOf(record).map(reasonText).filter(Boolean).join(t('list.separator'))
}
