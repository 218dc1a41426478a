import { onScopeDispose, ref, shallowRef, watch, type Ref, type ShallowRef, type WatchSource } from 'vue'
import { Problem } from '@/api/client'
import { t, tx } from '@/i18n'

/** A problem in words: its code's sentence, else what the server said. */
export function explain(problem: unknown): string {
  if (!(problem instanceof Problem)) return t('problem.unexpected')
  const words = tx('problem', problem.code, problem.params)
  const said = problem.message && problem.message !== problem.code ? problem.message : ''
  const known = words !== problem.code.replaceAll('_', ' ')
  return known || !said ? words : said
}

/** The same with what the server says in particular, for whoever can mend it. */
export function explainFully(problem: unknown): string {
  const detail = problem instanceof Problem ? problem.params.detail : null
  return [explain(problem), typeof detail === 'string' ? detail : ''].filter(Boolean).join(' ')
}

/** True when the server does not know the route: an older server, or a part that is switched off. */
export function isMissing(problem: unknown): boolean {
  return problem instanceof Problem && (problem.status === 405 || problem.code === 'not_found' || problem.code === 'http_404')
}

export interface Loaded<T> {
  data: ShallowRef<T | null>
  problem: Ref<string>
  missing: Ref<boolean>
  loading: Ref<boolean>
  /** When the shown data came, by this machine's clock; null before the first. */
  loadedMs: Ref<number | null>
  reload: () => Promise<void>
}

/**
 * What a view shows of one answer: it is read at once, again when `on` changes, and every `everyMs` if given.
 *
 * Data that was read stays while a later reading fails; `problem` then says so. Answers that come late are dropped.
 */
export function useLoaded<T>(
  read: () => Promise<T>,
  on: WatchSource | WatchSource[] = [],
  options: { everyMs?: number; gone?: () => void } = {},
): Loaded<T> {
  const data = shallowRef<T | null>(null)
  const problem = ref('')
  const missing = ref(false)
  const loading = ref(false)
  const loadedMs = ref<number | null>(null)
  let turn = 0

  async function reload(): Promise<void> {
    const mine = ++turn
    loading.value = true
    try {
      const answer = await read()
      if (mine !== turn) return
      data.value = answer
      problem.value = ''
      missing.value = false
      loadedMs.value = Date.now()
    } catch (failure) {
      if (mine !== turn) return
      if (failure instanceof Problem && failure.status === 401) options.gone?.()
      problem.value = explain(failure)
      missing.value = isMissing(failure)
    } finally {
      if (mine === turn) loading.value = false
    }
  }

  watch(on, () => {
    data.value = null
    loadedMs.value = null
    void reload()
  })
  void reload()
  if (options.everyMs) {
    const timer = setInterval(() => {
      if (!document.hidden && !missing.value) void reload()
    }, options.everyMs)
    onScopeDispose(() => clearInterval(timer))
  }
  onScopeDispose(() => (turn += 1))
  return { data, problem, missing, loading, loadedMs, reload }
}
