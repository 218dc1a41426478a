import 'fake-indexeddb/auto'
import { IDBFactory } from 'fake-indexeddb'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Client, type Problem } from '@/api/client'
import { memoryStore, newItemId, openStore, Outbox, type Item } from '@/phone/outbox'
import { NOW } from './build'

interface Sent {
  path: string
  key: string | null
  body: Record<string, unknown>
}

let sent: Sent[]
let answers: (() => Response | Promise<Response>)[]
let refused: Problem[]
let delivered: Item[]
let signedOut: number
let offline: boolean
let listed: Item[]

function ok(body: unknown = {}): Response {
  return new Response(JSON.stringify(body), { status: 200 })
}
function problem(status: number, code: string): Response {
  return new Response(JSON.stringify({ code, params: {} }), { status })
}
function noNetwork(): never {
  throw new TypeError('Failed to fetch')
}

const client = new Client('phone', (input, init) => {
  const headers = new Headers(init?.headers)
  const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : {}
  sent.push({ path: String(input), key: headers.get('Idempotency-Key'), body })
  return Promise.resolve().then(() => (answers.shift() ?? (offline ? noNetwork : ok))())
})

function makeOutbox(store = memoryStore()): Outbox {
  return new Outbox(client, store, {
    changed: (items) => (listed = items),
    sent: (item) => delivered.push(item),
    refused: (_, why) => refused.push(why),
    signedOut: () => (signedOut += 1),
  })
}

function buildAction(changes: Partial<Extract<Item, { kind: 'action' }>> = {}): Item {
  return {
    kind: 'action',
    id: newItemId(NOW),
    queued_at: new Date(NOW).toISOString(),
    incident_id: 'incident-1',
    action: 'accept',
    reason: '',
    note: '',
    photo: null,
    evidence_id: null,
    fix: null,
    ...changes,
  }
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  globalThis.indexedDB = new IDBFactory()
  sent = []
  answers = []
  refused = []
  delivered = []
  signedOut = 0
  offline = false
  listed = []
})
afterEach(() => vi.useRealTimers())

async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve()
}

describe('the outbox', () => {
  it('sends in the order of doing', async () => {
    const outbox = makeOutbox()
    for (const action of ['accept', 'arrive'] as const) await outbox.add(buildAction({ action }))
    await settle()
    expect(sent.map((one) => one.path.split('/').at(-1))).toEqual(['accept', 'arrive'])
    expect(listed).toEqual([])
  })

  it('keeps what cannot be sent and repeats it with the same key, so that nothing happens twice', async () => {
    answers = [noNetwork]
    const outbox = makeOutbox()
    const item = buildAction()
    await outbox.add(item)
    await settle()
    expect(listed).toEqual([item])
    await vi.advanceTimersByTimeAsync(1000)
    await settle()
    expect(sent.map((one) => one.key)).toEqual([item.id, item.id])
    expect(delivered).toEqual([item])
  })

  it('lets nothing overtake what waits', async () => {
    answers = [() => problem(503, 'database_unavailable')]
    const outbox = makeOutbox()
    await outbox.add(buildAction({ action: 'accept' }))
    await settle()
    await outbox.add(buildAction({ action: 'arrive' }))
    await settle()
    expect(sent.map((one) => one.path.split('/').at(-1))).toEqual(['accept', 'accept', 'arrive'])
  })

  it('takes out what the server refuses, says why, and goes on', async () => {
    answers = [() => problem(403, 'not_your_task')]
    const outbox = makeOutbox()
    await outbox.add(buildAction())
    await settle()
    await outbox.add(buildAction({ incident_id: 'incident-2' }))
    await settle()
    expect(refused.map((why) => why.code)).toEqual(['not_your_task'])
    expect(delivered).toHaveLength(1)
    expect(listed).toEqual([])
  })

  it('keeps everything when the session has ended', async () => {
    answers = [() => problem(401, 'not_signed_in')]
    const outbox = makeOutbox()
    await outbox.add(buildAction())
    await settle()
    expect(signedOut).toBe(1)
    expect(listed).toHaveLength(1)
  })

  it('sends the photograph first and once, though the action behind it fails', async () => {
    answers = [() => ok({ id: 'evidence-1' }), noNetwork, () => ok()]
    const outbox = makeOutbox()
    const photo = { blob: new Blob(['jpeg']), taken_at: new Date(NOW).toISOString() }
    const item = buildAction({ action: 'handle', photo, fix: { lon: 120.17, lat: 30.28, accuracy_m: 8 } })
    await outbox.add(item)
    await settle()
    await vi.advanceTimersByTimeAsync(1000)
    await settle()
    expect(sent.map((one) => one.path)).toEqual([
      '/api/v1/evidence',
      '/api/v1/incidents/incident-1/actions/handle',
      '/api/v1/incidents/incident-1/actions/handle',
    ])
    expect(sent[0]?.key).toBe(`${item.id}-photo`)
    expect(sent[2]?.body).toMatchObject({ evidence_id: 'evidence-1', lon: 120.17, lat: 30.28, crs: 'EPSG:4326' })
  })

  it('survives the page: another page sends what the first one left', async () => {
    vi.useRealTimers()
    offline = true
    const first = makeOutbox(await openStore())
    for (const action of ['accept', 'arrive'] as const) await first.add(buildAction({ action }))
    await vi.waitFor(() => expect(sent.length).toBeGreaterThan(1))
    sent = []
    offline = false
    await makeOutbox(await openStore()).load()
    await vi.waitFor(() => expect(sent.map((one) => one.path.split('/').at(-1))).toContain('arrive'))
    expect(sent[0]?.path).toMatch(/accept$/)
  })
})
