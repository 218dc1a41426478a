import type { Scope } from '@/api/things'
import { t, tx } from '@/i18n'

/** A scope in words: the narrowest part first; nothing given is everywhere. */
export function scopeText(scope: Scope | null): string {
  const words: string[] = []
  if (scope?.device) words.push(t('scope.one_device'))
  if (scope?.kind) words.push(tx('kind', scope.kind))
  if (scope?.area) words.push(t('scope.in_area', { code: scope.area }))
  return words.join(' · ') || t('scope.all')
}
