/** Devices as the list shows them: read page by page with the server's filters, as far as somebody scrolls. */
import { computed, ref, shallowRef } from 'vue'
import type { Client } from '@/api/client'
import type { Device } from '@/api/types'
import { explain } from '@/ui/loading'

export interface Filters {
  q: string
  kind: string
  status: string
  parent: string
}

export const NO_FILTERS: Filters = { q: '', kind: '', status: '', parent: '' }
export type DeviceRow = Device
const PAGE = 200

export function listAddress(filters: Filters, after: number | null): string {
  const search = new URLSearchParams({ limit: String(PAGE) })
  for (const [name, value] of Object.entries(filters)) if (value) search.set(name, value)
  if (after !== null) search.set('after', String(after))
  return `/devices?${search.toString()}`
}

export function createList(client: Pick<Client, 'get'>) {
  const rows = shallowRef<DeviceRow[]>([])
  const next = ref<number | null>(null)
  const loading = ref(false)
  const loaded = ref(false)
  const problem = ref('')
  let turn = 0
  let wanted = NO_FILTERS

  async function fetchPage(after: number | null): Promise<void> {
    const mine = ++turn
    loading.value = true
    problem.value = ''
    try {
      const page = await client.get<DeviceRow[]>(listAddress(wanted, after))
      if (mine !== turn) return
      rows.value = after === null ? page : [...rows.value, ...page]
      // A full page may be followed by another; a page that is not full is the last.
      next.value = page.length >= PAGE ? (page.at(-1)?.map_id ?? null) : null
      loaded.value = true
    } catch (failure) {
      if (mine === turn) problem.value = explain(failure)
    } finally {
      if (mine === turn) loading.value = false
    }
  }

  return {
    rows: computed(() => rows.value),
    loading: computed(() => loading.value),
    loaded: computed(() => loaded.value),
    problem: computed(() => problem.value),
    hasMore: computed(() => next.value !== null),
    /** From the first page; what was shown stays until the answer is there. */
    read(filters: Filters): Promise<void> {
      wanted = { ...filters }
      return fetchPage(null)
    },
    readMore(): Promise<void> {
      if (loading.value || next.value === null || problem.value) return Promise.resolve()
      return fetchPage(next.value)
    },
    again(): Promise<void> {
      return fetchPage(rows.value.length ? next.value : null)
    },
  }
}
