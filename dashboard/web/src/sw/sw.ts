/**
 * The phone page's service worker: opens the page without a network, shows a task that was pushed, confirms that it came.
 * It serves `/phone` only. What the API says is never kept here: an old answer must not look new.
 */
export {}

declare const self: ServiceWorkerGlobalScope & { __WB_MANIFEST: { url: string; revision: string | null }[] }

const MANIFEST = self.__WB_MANIFEST
const PREFIX = 'gridwarden-shell-'
const CACHE = PREFIX + fingerprint(MANIFEST.map(({ url, revision }) => url + (revision ?? '')).join())
const PAGE = '/phone'

interface TaskPush {
  push_id: string
  kind: 'offered' | 'rework' | 'withdrawn'
  incident_id: string
  title: string
  body: string
  language: string
  severity: number
  url: string
}

function fingerprint(text: string): string {
  let hash = 0
  for (const letter of text) hash = (hash * 31 + letter.charCodeAt(0)) >>> 0
  return hash.toString(36)
}

async function fillShell(): Promise<void> {
  const cache = await caches.open(CACHE)
  // The server gives the page at /phone, not under its file's name.
  const urls = MANIFEST.map(({ url }) => (url === 'phone.html' ? PAGE : `/${url}`))
  await cache.addAll(urls.map((url) => new Request(url, { cache: 'no-cache' })))
}

async function dropOldShells(): Promise<void> {
  const names = await caches.keys()
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)))
}

self.addEventListener('install', (event) => event.waitUntil(fillShell().then(() => self.skipWaiting())))
self.addEventListener('activate', (event) => event.waitUntil(dropOldShells().then(() => self.clients.claim())))

/** The network's page when there is one, so that an update is seen at once; the kept one otherwise. */
async function openPage(request: Request): Promise<Response> {
  try {
    const answer = await fetch(request)
    if (answer.ok) return answer
  } catch {
    // Offline: below.
  }
  return (await caches.match(PAGE)) ?? Response.error()
}

async function openFile(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request)
}

self.addEventListener('fetch', (event) => {
  const { request } = event
  const url = new URL(request.url)
  if (request.method !== 'GET' || url.origin !== self.location.origin || url.pathname.startsWith('/api/')) return
  if (request.mode === 'navigate') {
    if (url.pathname === PAGE) event.respondWith(openPage(request))
    return
  }
  event.respondWith(openFile(request))
})

async function showTask(push: TaskPush): Promise<void> {
  const confirmed = fetch(`/api/v1/push/${push.push_id}/receipt`, {
    method: 'POST',
    headers: { 'X-Seat': 'phone' },
    credentials: 'same-origin',
  }).catch(() => undefined)
  await self.registration.showNotification(push.title, {
    body: push.body,
    lang: push.language,
    tag: push.incident_id,
    icon: '/icons/icon-192.png',
    badge: '/icons/badge-96.png',
    requireInteraction: push.kind !== 'withdrawn',
    data: { url: push.url },
  })
  await confirmed
}

self.addEventListener('push', (event) => {
  const push = event.data?.json() as TaskPush | undefined
  if (push) event.waitUntil(showTask(push))
})

async function openTask(url: string): Promise<void> {
  const pages = await self.clients.matchAll({ type: 'window' })
  const open = pages.find((page) => new URL(page.url).pathname === PAGE)
  if (!open) {
    await self.clients.openWindow(url)
    return
  }
  await open.navigate(url)
  await open.focus()
}

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  const { url } = event.notification.data as { url: string }
  // Only a page of ours: the address comes from outside this file.
  event.waitUntil(openTask(url.startsWith('/phone') ? url : PAGE))
})
