/**
 * What was done in the street and not yet sent. It is kept in IndexedDB, sent in order, each thing with its own
 * Idempotency-Key: a repeat after a lost answer does nothing twice.
 */
import { newId, Problem, type Client } from '@/api/client'
import type { ActionName } from '@/api/types'

export interface Fix {
  lon: number
  lat: number
  accuracy_m: number | null
}

export interface Photo {
  blob: Blob
  taken_at: string
}

interface Common {
  id: string
  queued_at: string
  photo: Photo | null
  evidence_id: string | null
  fix: Fix | null
}

export type Item =
  | (Common & { kind: 'action'; incident_id: string; action: ActionName; reason: string; note: string; found?: boolean })
  | (Common & { kind: 'report'; category: string; note: string })

export interface Store {
  all: () => Promise<Item[]>
  put: (item: Item) => Promise<void>
  remove: (id: string) => Promise<void>
}

const DATABASE = 'gridwarden-phone'
const TABLE = 'outbox'

function wait<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB failed'))
  })
}

/** Ids are in the order of queueing, so the store's key order is the order of sending. */
export async function openStore(): Promise<Store> {
  const opening = indexedDB.open(DATABASE, 1)
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: 'id' })
  const database = await wait(opening)
  const table = (mode: IDBTransactionMode) => database.transaction(TABLE, mode).objectStore(TABLE)
  return {
    all: () => wait<Item[]>(table('readonly').getAll()),
    put: async (item) => void (await wait(table('readwrite').put(item))),
    remove: async (id) => void (await wait(table('readwrite').delete(id))),
  }
}

/** Private windows may refuse IndexedDB: then the outbox lasts as long as the page. */
export function memoryStore(): Store {
  const items = new Map<string, Item>()
  return {
    all: () => Promise.resolve([...items.values()].sort((a, b) => a.id.localeCompare(b.id))),
    put: (item) => Promise.resolve(void items.set(item.id, item)),
    remove: (id) => Promise.resolve(void items.delete(id)),
  }
}

let counter = 0

/** Sorts by the instant of queueing, then by a count within this page. */
export function newItemId(nowMs: number): string {
  counter += 1
  return `${String(nowMs).padStart(15, '0')}-${String(counter).padStart(6, '0')}-${newId()}`
}

export interface OutboxHooks {
  /** The list or what is being sent has changed. */
  changed: (items: Item[], sending: boolean) => void
  sent: (item: Item, answer: unknown) => void
  /** The server said no, and would say so again. */
  refused: (item: Item, problem: Problem) => void
  signedOut: () => void
}

const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 30_000

export class Outbox {
  private items: Item[] = []
  private sending = false
  private waitMs = FIRST_WAIT_MS
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly client: Client,
    private readonly store: Store,
    private readonly hooks: OutboxHooks,
  ) {}

  async load(): Promise<void> {
    this.items = await this.store.all()
    this.tell()
    void this.flush()
  }

  /** What the disk has no room for is still sent, as long as the page lives. */
  async add(item: Item): Promise<void> {
    await this.store.put(item).catch((problem: unknown) => console.error('outbox:', problem))
    this.items = [...this.items, item]
    this.tell()
    void this.flush()
  }

  /** Sends what waits, oldest first; stops at the first thing that cannot pass, so that the order stands. */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    if (this.sending || this.items.length === 0) return
    this.sending = true
    this.tell()
    try {
      for (let item = this.items[0]; item; item = this.items[0]) {
        if (!(await this.sendOne(item))) break
      }
    } finally {
      this.sending = false
      this.tell()
    }
  }

  private tell(): void {
    this.hooks.changed(this.items, this.sending)
  }

  private async sendOne(item: Item): Promise<boolean> {
    try {
      const answer = await this.deliver(item)
      await this.drop(item)
      this.waitMs = FIRST_WAIT_MS
      this.hooks.sent(item, answer)
      return true
    } catch (failure) {
      const problem = failure instanceof Problem ? failure : new Problem(0, 'unexpected')
      if (problem.status === 401) {
        this.hooks.signedOut()
        return false
      }
      if (problem.passing) {
        this.timer = setTimeout(() => void this.flush(), this.waitMs)
        this.waitMs = Math.min(LONGEST_WAIT_MS, this.waitMs * 2)
        return false
      }
      await this.drop(item)
      // Done before, with the answer lost: the live list shows how it stands.
      if (problem.code === 'idempotency_answer_lost') this.hooks.sent(item, null)
      else this.hooks.refused(item, problem)
      return true
    }
  }

  private async drop(item: Item): Promise<void> {
    await this.store.remove(item.id)
    this.items = this.items.filter((one) => one.id !== item.id)
    this.tell()
  }

  private async deliver(item: Item): Promise<unknown> {
    const evidenceId = await this.deliverPhoto(item)
    const place = item.fix ? { ...item.fix, crs: 'EPSG:4326' } : {}
    if (item.kind === 'report') {
      const { lon, lat, crs } = place as { lon?: number; lat?: number; crs?: string }
      const body = { category: item.category, lon, lat, crs, note: item.note, source_key: `phone:${item.id}` }
      return this.client.post('/reports', evidenceId ? { ...body, evidence_ids: [evidenceId] } : body, { key: item.id })
    }
    const words = { reason: item.reason, note: item.note, ...(item.found === undefined ? {} : { found: item.found }) }
    const body = { ...words, ...place, ...(evidenceId ? { evidence_id: evidenceId } : {}) }
    return this.client.post(`/incidents/${item.incident_id}/actions/${item.action}`, body, { key: item.id })
  }

  /** The picture goes first and once; its id is kept so that a later failure does not send it again. */
  private async deliverPhoto(item: Item): Promise<string | null> {
    if (!item.photo || item.evidence_id) return item.evidence_id
    const form = new FormData()
    form.set('file', item.photo.blob, 'photo.jpg')
    form.set('taken_at', item.photo.taken_at)
    if (item.fix) {
      form.set('lon', String(item.fix.lon))
      form.set('lat', String(item.fix.lat))
      form.set('crs', 'EPSG:4326')
    }
    const options = { form, key: `${item.id}-photo`, timeoutS: 90 }
    const kept = await this.client.request<{ id: string }>('POST', '/evidence', options)
    item.evidence_id = kept.id
    await this.store.put(item).catch((problem: unknown) => console.error('outbox:', problem))
    return kept.id
  }
}
