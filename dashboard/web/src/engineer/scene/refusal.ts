/** Why the server does not take a scene, in the reader's language: by code, with the field and its limit. */
import { hasText, language, tx } from '@/i18n'

export function refusalText(params: Record<string, unknown>): string {
  const why = String(params['why'] ?? '')
  const field = String(params['field'] ?? '')
  const name = field && hasText('figure', field) ? tx('figure', field) : field.replaceAll('_', ' ')
  if (!hasText('scene_why', why)) return [name, tx('scene_why', 'other', { reason: String(params['reason'] ?? '') })].filter(Boolean).join(language.value === 'en' ? ': ' : '：')
  return tx('scene_why', why, { ...params, field: name })
}
