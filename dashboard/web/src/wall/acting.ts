/** What an operator does to an incident: at once, or held for some seconds so that it can be undone. */
import { computed, ref, watch } from 'vue'
import { newId, Problem } from '@/api/client'
import type { ActionName, IncidentDetail, OfferedAction, Verdict } from '@/api/types'
import { t, tx } from '@/i18n'
import { needsAcknowledgement } from '@/model/light'
import { city, client, detail, explain, reloadDetail, selected, selectedId, takeDetail } from './desk'
import { showToast } from '@/ui/toasts'

export interface ActionInputs {
  reason?: string
  note?: string
  user_id?: string
  verdict?: Verdict
  reason_code?: string
  found?: boolean
  until?: string
  user_ids?: string[]
  score?: number
  incident_id?: string
  report_ids?: string[]
}

/** What can be given at a desk. An action that needs something else is not offered here: a photograph and a position come from the street. */
const GIVEN_HERE: ReadonlySet<string> = new Set(['reason', 'user', 'verdict', 'until', 'users', 'score', 'incident', 'reports'])

/** The form that is open below the proposal, if any. */
export const composing = ref<ActionName | null>(null)
export const busy = ref(false)

const UNDO_MS = 5000

/** What will be sent when the time to undo it has passed. */
export const pending = ref<{ incidentId: string; name: ActionName } | null>(null)

/** Endings cannot be taken back on the server, so they wait here first. */
function endsIt(name: ActionName, inputs: ActionInputs): boolean {
  return name === 'void' || (name as string) === 'merge' || (name === 'check' && inputs.verdict === 'clear')
}

export const offered = computed<OfferedAction[]>(() => {
  const shown = detail.value
  if (!shown || shown.id !== selectedId.value) return []
  return shown.actions.filter((one) => one.needs.every((need) => GIVEN_HERE.has(need)))
})

export function findOffered(name: string): OfferedAction | undefined {
  return offered.value.find((one) => one.name === name)
}

const WANTED_BY_NEED: Record<string, ActionName[]> = {
  verify: ['file'],
  check: ['check'],
  nobody_accepted: ['dispatch'],
  nobody_available: ['dispatch'],
  unit_refused: ['dispatch'],
  extension: ['grant_extension' as ActionName],
  appeal: ['accept_appeal' as ActionName],
  verified_false: ['void'],
}

/** What to do next: the system's own proposal first, then what the operator is waited for, then to say "seen". */
export const primary = computed<OfferedAction | null>(() => {
  const incident = detail.value
  if (!incident) return null
  const wanted: string[] = []
  if (incident.proposal) wanted.push(incident.proposal.action)
  if (incident.needs_operator) wanted.push(...(WANTED_BY_NEED[incident.needs_operator] ?? []))
  if (needsAcknowledgement(incident)) wanted.push('acknowledge')
  if (incident.state === 'handled') wanted.push('check')
  if (incident.state === 'filed') wanted.push('dispatch')
  if (incident.state === 'reported') wanted.push('file')
  for (const name of wanted) {
    const action = findOffered(name)
    if (action) return action
  }
  return null
})

/** What is missing before the action can be sent without a form. */
function isReady(action: OfferedAction, inputs: ActionInputs): boolean {
  return action.needs.every((need) => {
    if (need === 'reason') return Boolean(inputs.reason)
    if (need === 'user') return Boolean(inputs.user_id)
    if (need === 'verdict') return Boolean(inputs.verdict)
    return false
  })
}

let wish: (() => void) | null = null

/** A key that comes before the details have arrived is not lost: it waits for them. */
function waitForDetail(act: () => void): boolean {
  if (!selected.value || detail.value?.id === selectedId.value) return false
  wish = act
  return true
}

watch(selectedId, () => (wish = null))
watch(detail, () => {
  const act = wish
  wish = null
  if (detail.value?.id === selectedId.value) act?.()
})

export function doPrimary(): void {
  if (waitForDetail(doPrimary)) return
  const action = primary.value
  if (!action) return
  const proposal = detail.value?.proposal
  const inputs: ActionInputs = {}
  if (proposal?.action === action.name && proposal.user_id) inputs.user_id = proposal.user_id
  if (isReady(action, inputs)) void perform(action.name, inputs)
  else composing.value = action.name
}

export function begin(name: ActionName): void {
  if (waitForDetail(() => begin(name))) return
  const action = findOffered(name)
  if (!action) {
    if (selected.value) showToast(t('toast.not_now', { action: tx('action', name) }))
    return
  }
  if (action.needs.length === 0 && name !== 'dispatch') void perform(name, {})
  else composing.value = name
}

async function post(incident: IncidentDetail, name: ActionName, inputs: ActionInputs, keepalive = false): Promise<void> {
  const options = { key: newId(), keepalive }
  // "Seen" decides nothing, so it need not have been said of the newest version.
  const guarded = name === 'acknowledge' ? options : { ...options, version: incident.version }
  const answer = await client.post<IncidentDetail>(`/incidents/${incident.id}/actions/${name}`, inputs, guarded)
  if (selectedId.value === answer.id) takeDetail(answer)
}

function told(incident: IncidentDetail, name: ActionName): string {
  return t('toast.done', { action: tx('action', name), number: incident.number })
}

function refuse(problem: unknown): void {
  if (problem instanceof Problem && problem.code === 'version_conflict') {
    showToast(t('toast.changed_meanwhile'), 'bad')
  } else {
    showToast(explain(problem), 'bad', 8000)
  }
  reloadDetail()
}

let held: { send: (leaving: boolean) => Promise<void>; cancel: () => void } | null = null

/** Sends what is waiting: before another action, and when the page is left. */
export async function sendHeld(leaving = false): Promise<void> {
  const waiting = held
  held = null
  await waiting?.send(leaving)
}

function hold(incident: IncidentDetail, name: ActionName, inputs: ActionInputs): void {
  const timer = setTimeout(() => void sendHeld(), UNDO_MS)
  const mine = {
    send: async (leaving: boolean) => {
      clearTimeout(timer)
      pending.value = null
      try {
        await post(incident, name, inputs, leaving)
      } catch (problem) {
        refuse(problem)
      }
    },
    cancel: () => {
      clearTimeout(timer)
      pending.value = null
      if (held === mine) held = null
      showToast(t('toast.undone', { action: tx('action', name) }))
    },
  }
  held = mine
  pending.value = { incidentId: incident.id, name }
  showToast(told(incident, name), 'plain', UNDO_MS, mine.cancel)
}

export async function perform(name: ActionName, inputs: ActionInputs): Promise<void> {
  const incident = detail.value
  if (!incident || busy.value) return
  busy.value = true
  composing.value = null
  try {
    await sendHeld()
    if (endsIt(name, inputs)) {
      hold(incident, name, inputs)
    } else {
      await post(incident, name, inputs)
      showToast(told(incident, name))
    }
  } catch (problem) {
    refuse(problem)
  } finally {
    busy.value = false
  }
}

/** The camera that says most about the incident: its own, else the nearest one. */
export function findCamera(): string | null {
  const own = detail.value?.reports.find((report) => report.device?.kind === 'camera')?.device?.id
  if (own) return own
  const at = selected.value
  if (!at) return null
  let best: string | null = null
  let bestMetres = 400
  for (const device of city.devices.value.values()) {
    if (device.kind !== 'camera') continue
    const east = (device.lon - at.lon) * 111_320 * Math.cos((at.lat * Math.PI) / 180)
    const metres = Math.hypot(east, (device.lat - at.lat) * 110_540)
    if (metres < bestMetres) {
      best = device.id
      bestMetres = metres
    }
  }
  return best
}
