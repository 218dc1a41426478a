import type { Command, Interlock } from '@/api/things'
import { hasText, pick, t, tx } from '@/i18n'
import { metricText } from '@/model/device'
import { span } from '@/model/clock'

/** Figures of an interlock with their units, by the names they carry. */
export function figures(params: Record<string, unknown> | undefined): Record<string, unknown> {
  const texts: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(params ?? {})) {
    if (typeof value !== 'number') texts[name] = value
    else texts[name] = name.endsWith('_s') ? span(value) : metricText(name, { value, at: '' })
  }
  return texts
}

export function interlockText(interlock: Interlock): string {
  if (interlock.ok !== false || !hasText('interlock_bad', interlock.code)) return tx('interlock', interlock.code, figures(interlock.params))
  const text = tx('interlock_bad', interlock.code, figures(interlock.params))
  // A figure that did not come leaves a gap in the sentence: then the condition's name says enough.
  return /\{\w+\}|null/.test(text) ? t('interlock.not_met', { name: tx('interlock', interlock.code) }) : text
}

export function commandTitle(name: string, titles?: { title_zh: string; title_en: string }): string {
  if (titles) return pick({ zh: titles.title_zh, en: titles.title_en })
  return tx('command_name', name)
}

export function parametersText(parameters: Record<string, unknown>): string {
  const parts = Object.entries(parameters).map(([name, value]) => {
    const label = hasText('field', name) ? tx('field', name) : tx('metric', name)
    return `${label} ${typeof value === 'number' ? metricText(name, { value, at: '' }) : tx('option', String(value))}`
  })
  return parts.join(t('list.separator'))
}

/** Why a command ended as it did. */
export function outcomeText(command: Command): string {
  const { outcome } = command
  if (!outcome) return ''
  const code = outcome.code ?? ''
  const words = hasText('outcome', code) ? tx('outcome', code) : hasText('interlock', code) ? interlockText({ code, ok: false }) : code.replaceAll('_', ' ')
  const detail = typeof outcome.detail === 'string' ? outcome.detail : ''
  return detail && detail !== code ? t('command.outcome_detail', { words, detail }) : words
}

/** Detail of a step: codes in words, texts as they came, the rest not at all. */
export function detailText(detail: unknown): string {
  if (typeof detail === 'string') return hasText('outcome', detail) ? tx('outcome', detail) : detail
  if (typeof detail !== 'object' || detail === null) return ''
  const { code, reason, result, detail: inner } = detail as Record<string, unknown>
  if (typeof result === 'string') return [tx('reply', result), typeof inner === 'string' ? inner : ''].filter(Boolean).join(t('list.separator'))
  if (typeof code === 'string') return hasText('outcome', code) ? tx('outcome', code) : interlockText({ code, ok: false, params: detail as Record<string, unknown> })
  if (typeof reason === 'string') return reason
  return typeof inner === 'string' ? inner : ''
}
