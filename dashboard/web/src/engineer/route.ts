/** Where the engineers' page stands: addresses under /devices, so that every view can be linked and gone back to. */
import { computed, ref } from 'vue'

export const PAGES = ['devices', 'import', 'letters', 'rules', 'mappings', 'maintenance', 'parking', 'findings'] as const
export type PageName = (typeof PAGES)[number]
export const TABS = ['state', 'scene', 'console', 'registry', 'keys', 'check', 'home', 'shelf', 'commands', 'water'] as const
export type TabName = (typeof TABS)[number]

export interface Route {
  page: PageName
  /** Device, rule or mapping; `new` for one that is being made. */
  id: string | null
  tab: TabName
}

/** `/devices`, `/devices/<device>/<tab>`, `/devices/rules`, `/devices/rules/<rule>`; what is not known is the list. */
export function readRoute(pathname: string): Route {
  const [first, second] = pathname.split('/').filter(Boolean).slice(1).map(decodeURIComponent)
  const page = PAGES.find((name) => name === first)
  if (first === undefined || page === 'devices') return { page: 'devices', id: null, tab: 'state' }
  if (page) return { page, id: second ?? null, tab: 'state' }
  return { page: 'devices', id: first, tab: TABS.find((name) => name === second) ?? 'state' }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Where somebody is led who typed a device's code for its id: the label's address knows codes. Null: an id, or no device. */
export function labelAddress({ page, id }: Route): string | null {
  return page === 'devices' && id !== null && !UUID.test(id) ? `/device/${encodeURIComponent(id)}` : null
}

export function deviceAddress(id: string, tab: TabName = 'state'): string {
  return tab === 'state' ? `/devices/${id}` : `/devices/${id}/${tab}`
}

export function pageAddress(page: PageName, id?: string): string {
  const base = page === 'devices' ? '/devices' : `/devices/${page}`
  return id ? `${base}/${encodeURIComponent(id)}` : base
}

const address = ref(location.pathname + location.search)

export const route = computed(() => readRoute(address.value.split('?')[0] ?? ''))
export const query = computed(() => new URLSearchParams(address.value.split('?')[1] ?? ''))

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, '', to)
  else history.pushState(null, '', to)
  address.value = to
}

/** Keeps the filters in the address without a new step back. */
export function setQuery(values: Record<string, string>): void {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) if (value) search.set(name, value)
  const text = search.toString()
  go((address.value.split('?')[0] ?? '') + (text ? `?${text}` : ''), true)
}

/** Follows the browser's back and forward, and takes over links to this page. */
export function followAddress(): () => void {
  const label = labelAddress(route.value)
  if (label) location.replace(label)
  const moved = () => (address.value = location.pathname + location.search)
  const clicked = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return
    const link = (event.target as Element | null)?.closest?.('a[href]')
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute('download')) return
    if (link.origin !== location.origin || !/^\/devices(\/|$)/.test(link.pathname)) return
    event.preventDefault()
    go(link.pathname + link.search)
  }
  window.addEventListener('popstate', moved)
  document.addEventListener('click', clicked)
  return () => {
    window.removeEventListener('popstate', moved)
    document.removeEventListener('click', clicked)
  }
}
