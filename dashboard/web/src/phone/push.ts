/** Web Push: this browser's address is given to the server, so that a task reaches a phone whose page is closed. */
import type { Client } from '@/api/client'

export type PushState = 'on' | 'off' | 'denied' | 'missing'

function registration(): Promise<ServiceWorkerRegistration | undefined> {
  return navigator.serviceWorker.getRegistration('/phone')
}

export async function readPushState(): Promise<PushState> {
  if (!('serviceWorker' in navigator) || !('PushManager' in window)) return 'missing'
  if (Notification.permission === 'denied') return 'denied'
  const found = await registration()
  return (await found?.pushManager.getSubscription()) ? 'on' : 'off'
}

/** The key comes as base64url without padding; browsers want bytes. */
export function decodeKey(key: string): Uint8Array<ArrayBuffer> {
  const text = atob(key.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0))
}

/** Asks the person; throws when the browser or its push service does not answer. */
export async function turnPushOn(client: Client): Promise<PushState> {
  if ((await Notification.requestPermission()) !== 'granted') return 'denied'
  const found = await registration()
  if (!found) return 'missing'
  const { key } = await client.get<{ key: string }>('/push/key')
  const options = { userVisibleOnly: true, applicationServerKey: decodeKey(key) }
  const subscription = await found.pushManager.subscribe(options)
  const { endpoint, keys } = subscription.toJSON()
  await client.post('/push/subscriptions', { endpoint, keys })
  return 'on'
}

export async function turnPushOff(client: Client): Promise<PushState> {
  const found = await registration()
  const subscription = await found?.pushManager.getSubscription()
  if (subscription) {
    await client.request('DELETE', '/push/subscriptions', { body: { endpoint: subscription.endpoint } })
    await subscription.unsubscribe()
  }
  return 'off'
}
