/** What one operator's page holds: the city, the connection, who is logged in, what is selected. */
import { computed, ref, shallowRef, watch } from 'vue'
import { Client, Problem } from '@/api/client'
import { LiveSocket, type Link } from '@/api/live'
import type { Incident, IncidentDetail, LiveMessage, MapSummary, Me } from '@/api/types'
import { followPerson, t } from '@/i18n'
import { applyMessages, createCity, type Changed } from '@/model/city'
import { setTimeZone } from '@/model/clock'
import { isOpen, needsAcknowledgement } from '@/model/light'
import { play } from './sounds'
import { explain } from '@/ui/loading'
import { showToast } from '@/ui/toasts'

export const client = new Client('wall')
export const city = createCity()
export const me = ref<Me | null>(null)
export const link = ref<Link>('connecting')
export const heardAtMs = ref(Date.now())
export const mapSummary = shallowRef<MapSummary | null>(null)

export const selectedId = ref<string | null>(null)
export const deviceId = ref<string | null>(null)
export const detail = shallowRef<IncidentDetail | null>(null)
export const detailProblem = ref('')

export const clockOffsetMs = () => city.facts.clockOffsetMs
export const serverNow = () => Date.now() + clockOffsetMs()

/** The chosen incident as the socket last told it, or as its detail does when it is no longer open. */
export const selected = computed<Incident | null>(() => {
  if (!selectedId.value) return null
  const known = city.incidents.value.get(selectedId.value)
  if (known) return known
  return detail.value?.id === selectedId.value ? detail.value : null
})

export const placeName = computed(() => mapSummary.value?.district?.name ?? me.value?.city ?? '')

export { explain }

export function leaveForLogin(): void {
  location.assign('/login?seat=wall')
}

export function selectIncident(id: string | null): void {
  if (id !== selectedId.value) {
    detail.value = null
    detailProblem.value = ''
  }
  selectedId.value = id
}

let loading: Promise<void> | null = null
let again = false

async function fetchDetail(id: string): Promise<void> {
  try {
    const answer = await client.get<IncidentDetail>(`/incidents/${id}`)
    if (selectedId.value === id) takeDetail(answer)
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) leaveForLogin()
    if (selectedId.value === id) detailProblem.value = explain(problem)
  }
}

export function takeDetail(answer: IncidentDetail): void {
  detail.value = answer
  detailProblem.value = ''
}

/** One request at a time; changes that come meanwhile cause one more. */
export function reloadDetail(): void {
  if (loading) {
    again = true
    return
  }
  const id = selectedId.value
  if (!id) return
  loading = fetchDetail(id).finally(() => {
    loading = null
    if (again) {
      again = false
      reloadDetail()
    }
  })
}

watch(selectedId, reloadDetail)
watch(
  () => selected.value?.version,
  (version) => {
    if (version !== undefined && detail.value && version > detail.value.version) reloadDetail()
  },
)

const known = new Map<string, string>()

/** Says what is new since the last burst: a sound, never a box in the way. */
function announce(changed: Changed): void {
  if (changed.snapshot) {
    for (const incident of city.incidents.value.values()) known.set(incident.id, incident.state)
    return
  }
  let urgent = false
  let fresh = false
  let done = false
  for (const id of changed.incidents) {
    const incident = city.incidents.value.get(id)
    const before = known.get(id)
    if (!incident) continue
    known.set(id, incident.state)
    if (before === undefined && isOpen(incident)) {
      fresh = true
      urgent ||= needsAcknowledgement(incident)
    }
    if (incident.state === 'closed' && before !== 'closed') {
      done = true
      showToast(t('toast.closed', { number: incident.number, place: incident.place }), 'good')
    }
  }
  if (urgent) play('urgent')
  else if (fresh) play('new')
  else if (done) play('done')
}

const KEEP_ENDED_MS = 15 * 60_000

/** Ended incidents stay a while, so that the panel and the map can show how they ended. */
function forgetEnded(): void {
  const now = serverNow()
  for (const incident of city.incidents.value.values()) {
    if (incident.ended_at && now - Date.parse(incident.ended_at) > KEEP_ENDED_MS && incident.id !== selectedId.value) {
      city.incidents.value.delete(incident.id)
      known.delete(incident.id)
    }
  }
}

function receive(messages: LiveMessage[]): void {
  announce(applyMessages(city, messages, Date.now()))
}

const socket = new LiveSocket({
  url: (since) => client.liveUrl(since),
  receive,
  linkChanged: (now, sinceMs) => {
    link.value = now
    heardAtMs.value = sinceMs
    if (now === 'refused') leaveForLogin()
    if (now === 'down') void readMe()
    if (now === 'live') reloadDetail()
  },
})

/** Reads who is logged in; nobody leads to the log-in page. */
export async function readMe(): Promise<void> {
  try {
    me.value = await client.get<Me>('/me')
    followPerson(me.value.language)
    setTimeZone(me.value.timezone)
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) leaveForLogin()
  }
}

async function readMap(): Promise<void> {
  try {
    mapSummary.value = await client.get<MapSummary>('/map')
  } catch (problem) {
    showToast(explain(problem), 'bad')
    setTimeout(() => void readMap(), 5000)
  }
}

export function openDesk(): () => void {
  void readMe()
  void readMap()
  socket.start()
  const online = () => socket.retryNow()
  window.addEventListener('online', online)
  const tidy = setInterval(forgetEnded, 60_000)
  return () => {
    socket.stop()
    clearInterval(tidy)
    window.removeEventListener('online', online)
  }
}

export async function logOut(): Promise<void> {
  try {
    await client.post('/logout')
  } finally {
    leaveForLogin()
  }
}
