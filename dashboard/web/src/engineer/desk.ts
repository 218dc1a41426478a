/** What the engineers' page holds: who is signed in, and the server's clock. It asks with the wall's seat. */
import { computed, ref } from 'vue'
import { Client, Problem } from '@/api/client'
import type { Me } from '@/api/types'
import { followPerson, tx } from '@/i18n'
import { setTimeZone, useTicker } from '@/model/clock'
import { explainFully } from '@/ui/loading'
import { showToast } from '@/ui/toasts'

export const client = new Client('wall')
export const me = ref<Me | null>(null)
/** The server could not be reached since; null when it answers. */
export const lostMs = ref<number | null>(null)

const EDITORS = ['engineer', 'admin']

/** Operators look; engineers and administrators change. */
export const mayEdit = computed(() => me.value?.roles.some((role) => EDITORS.includes(role)) ?? false)
export const mayWatch = computed(() => mayEdit.value || mayOperate.value)
/** Commands and parking are operators' acts: an engineer looks on. */
export const mayOperate = computed(() => me.value?.roles.includes('operator') ?? false)
/** Statements and bindings of plates. */
export const mayKeepParking = computed(() => me.value?.roles.some((role) => role === 'operator' || role === 'admin') ?? false)
export const rolesText = computed(() => (me.value?.roles ?? []).map((role) => tx('role', role)).join(' · '))

export function leaveForLogin(): void {
  const next = encodeURIComponent(location.pathname + location.search)
  location.assign(`/login?seat=wall&next=${next}`)
}

export async function readMe(): Promise<void> {
  try {
    me.value = await client.get<Me>('/me')
    lostMs.value = null
    followPerson(me.value.language)
    setTimeZone(me.value.timezone)
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) leaveForLogin()
    else lostMs.value ??= Date.now()
  }
}

/** Does something on the server and says how it went; null when it did not work. */
export async function attempt<T>(work: () => Promise<T>, done = ''): Promise<T | null> {
  try {
    const answer = await work()
    if (done) showToast(done, 'good')
    return answer ?? (true as T)
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) leaveForLogin()
    showToast(explainFully(problem), 'bad', 10_000)
    return null
  }
}

export const useNow = () => useTicker(1000, () => 0)
