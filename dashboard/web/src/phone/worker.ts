/** What one field worker's page holds. */
import { computed, ref, shallowRef, watch } from 'vue'
import { Client, Problem } from '@/api/client'
import { LiveSocket, type Link } from '@/api/live'
import type { ActionName, CategoryFull, Incident, IncidentDetail, LiveMessage, Me } from '@/api/types'
import { followPerson, t, tx } from '@/i18n'
import { applyMessages, createCity } from '@/model/city'
import { setTimeZone } from '@/model/clock'
import { read, write } from '@/ui/preferences'
import { memoryStore, newItemId, openStore, Outbox, type Fix, type Item, type Photo } from './outbox'
import { sharePosition } from './position'
import { chime } from './chime'
import { myRecent, myTasks } from './tasks'

export const client = new Client('phone')
export const city = createCity()
export const me = ref<Me | null>(null)
export const link = ref<Link>('connecting')
export const queued = shallowRef<Item[]>([])
export const sending = ref(false)
/** Said once, until it is tapped away. */
export const notices = ref<{ id: number; text: string; bad: boolean }[]>([])
export const categories = shallowRef<CategoryFull[]>([])
export const chosenId = ref<string | null>(null)
export const detail = shallowRef<IncidentDetail | null>(null)

export const clockOffsetMs = () => city.facts.clockOffsetMs
export const tasks = computed(() => myTasks(city.incidents.value.values(), me.value?.id, queued.value))
export const recent = computed(() => myRecent(city.incidents.value.values(), me.value?.id, queued.value))
export const next = computed(
  () => tasks.value.find((task) => task.incident.id === chosenId.value) ?? tasks.value[0] ?? null,
)

let noticeId = 1
export function say(text: string, bad = false): void {
  const id = noticeId++
  notices.value = [...notices.value.slice(-2), { id, text, bad }]
  if (!bad) setTimeout(() => dismiss(id), 5000)
}
export function dismiss(id: number): void {
  notices.value = notices.value.filter((one) => one.id !== id)
}

export function explain(problem: unknown): string {
  return problem instanceof Problem ? tx('problem', problem.code, problem.params) : t('problem.unexpected')
}

export function leaveForLogin(): void {
  location.assign('/login?seat=phone')
}

function nameOf(item: Item): string {
  return tx('action', item.kind === 'report' ? 'report' : item.action)
}

let outbox: Outbox | null = null

async function openOutbox(): Promise<void> {
  const store = await openStore().catch(() => memoryStore())
  outbox = new Outbox(client, store, {
    changed: (items, busy) => {
      queued.value = items
      sending.value = busy
    },
    sent: (item, answer) => {
      if (item.kind === 'report') say(t('phone.report_sent'))
      else if (answer) takeIncident(answer as IncidentDetail)
    },
    refused: (item, problem) => say(t('phone.refused', { action: nameOf(item), why: explain(problem) }), true),
    signedOut: leaveForLogin,
  })
  await outbox.load()
}

/** An answer is newer than the list, which the socket brings up to date a moment later. */
function takeIncident(answer: IncidentDetail): void {
  applyMessages(
    city,
    [{ type: 'delta', seq: -1, changes: [{ kind: 'incident', id: answer.id, data: answer }] }],
    Date.now(),
  )
  if (detail.value?.id === answer.id) detail.value = answer
}

export interface Doing {
  reason?: string
  note?: string
  photo?: Photo | null
  fix?: Fix | null
  found?: boolean
}

export async function doAction(incident: Incident, action: ActionName, doing: Doing = {}): Promise<void> {
  const now = Date.now() + clockOffsetMs()
  await outbox?.add({
    kind: 'action',
    id: newItemId(now),
    queued_at: new Date(now).toISOString(),
    incident_id: incident.id,
    action,
    reason: doing.reason ?? '',
    note: doing.note ?? '',
    photo: doing.photo ?? null,
    evidence_id: null,
    fix: doing.fix ?? null,
    ...(doing.found === undefined ? {} : { found: doing.found }),
  })
  if (link.value !== 'live') say(t('phone.kept', { action: tx('action', action) }))
}

export async function sendReport(category: string, note: string, photo: Photo | null, fix: Fix): Promise<void> {
  const now = Date.now() + clockOffsetMs()
  const item = { id: newItemId(now), queued_at: new Date(now).toISOString(), photo, evidence_id: null, fix }
  await outbox?.add({ kind: 'report', category, note, ...item })
  say(t('phone.report_kept'))
}

const offered = new Set<string>()

/** A new offer rings once; the receipt tells the server that this phone has it. */
function receive(messages: LiveMessage[]): void {
  const changed = applyMessages(city, messages, Date.now())
  for (const message of messages) {
    if (message.type !== 'task') continue
    socket.send({ type: 'receipt', push_id: message.push_id })
    if (message.kind === 'withdrawn') say(t('phone.withdrawn'))
    else ring(message.incident_id)
  }
  if (changed.snapshot || changed.incidents.size) keepForOffline()
}

function ring(incidentId: string): void {
  if (offered.has(incidentId)) return
  offered.add(incidentId)
  chime()
  // Before the first touch the browser refuses, and complains in its console.
  if (navigator.userActivation?.hasBeenActive !== false) navigator.vibrate?.([120, 80, 120])
}

const KEPT_AS = 'phone.kept'

/** The shell opens without a network; it then shows the tasks as they were last known. */
function keepForOffline(): void {
  const mine = [...city.incidents.value.values()].filter(
    (one) => one.assignee?.id === me.value?.id || one.handler?.id === me.value?.id,
  )
  write(KEPT_AS, JSON.stringify({ me: me.value, incidents: mine }))
}

function showKept(): void {
  try {
    const kept = JSON.parse(read(KEPT_AS) ?? 'null') as { me: Me | null; incidents: Incident[] } | null
    if (!kept?.me || me.value) return
    me.value = kept.me
    city.incidents.value = new Map(kept.incidents.map((one) => [one.id, one]))
  } catch {
    // What cannot be read is not shown.
  }
}

const socket = new LiveSocket({
  url: (since) => client.liveUrl(since),
  receive,
  linkChanged: (now) => {
    link.value = now
    if (now === 'refused') leaveForLogin()
    if (now === 'live') void outbox?.flush()
    if (now === 'live' && categories.value.length === 0) void readCategories()
  },
})

async function readMe(): Promise<void> {
  try {
    me.value = await client.get<Me>('/me')
    followPerson(me.value.language)
    setTimeZone(me.value.timezone)
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) leaveForLogin()
    else setTimeout(() => void readMe(), 5000)
  }
}

async function readCategories(): Promise<void> {
  try {
    categories.value = await client.get('/categories')
    write('phone.categories', JSON.stringify(categories.value))
  } catch {
    categories.value = JSON.parse(read('phone.categories') ?? '[]') as typeof categories.value
  }
}

async function readDetail(id: string): Promise<void> {
  try {
    const answer = await client.get<IncidentDetail>(`/incidents/${id}`)
    if (next.value?.incident.id === id) detail.value = answer
  } catch {
    // Without a network the task is shown without its pictures.
  }
}

export async function setDuty(onDuty: boolean): Promise<void> {
  try {
    me.value = await client.patch<Me>('/me', { on_duty: onDuty })
  } catch (problem) {
    say(explain(problem), true)
  }
}

export function openWorker(): () => void {
  showKept()
  void readMe()
  void readCategories()
  void openOutbox()
  socket.start()
  let stopSharing: (() => void) | null = null
  const stops = [
    watch(
      () => me.value?.on_duty ?? false,
      (onDuty) => {
        stopSharing?.()
        stopSharing = onDuty ? sharePosition(client, clockOffsetMs) : null
      },
      { immediate: true },
    ),
    watch(
      () => `${next.value?.incident.id ?? ''}:${next.value?.incident.version ?? 0}`,
      () => {
        const id = next.value?.incident.id
        if (detail.value?.id !== id) detail.value = null
        if (id) void readDetail(id)
      },
      { immediate: true },
    ),
  ]
  const online = () => {
    socket.retryNow()
    void outbox?.flush()
  }
  const seen = () => {
    if (!document.hidden) online()
  }
  window.addEventListener('online', online)
  document.addEventListener('visibilitychange', seen)
  return () => {
    stopSharing?.()
    for (const stop of stops) stop()
    socket.stop()
    window.removeEventListener('online', online)
    document.removeEventListener('visibilitychange', seen)
  }
}
