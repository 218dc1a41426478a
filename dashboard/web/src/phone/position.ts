/** Where this phone is: watched and shared on duty only, sent at most every ten seconds. */
import { ref } from 'vue'
import { Problem, type Client } from '@/api/client'
import { metresBetween } from '@/model/geometry'
import type { Fix } from './outbox'

export interface Position extends Fix {
  heading_deg: number | null
  measuredMs: number
}

export const position = ref<Position | null>(null)
export const positionProblem = ref<'denied' | 'failed' | null>(null)

const SEND_EVERY_MS = 10_000
const SEND_AGAIN_MS = 45_000
const MOVED_M = 15
const FRESH_MS = 60_000

let watching: number | null = null
let sent: { atMs: number; lon: number; lat: number } | null = null

function take(found: GeolocationPosition): void {
  const { longitude, latitude, accuracy, heading } = found.coords
  positionProblem.value = null
  position.value = {
    lon: longitude,
    lat: latitude,
    accuracy_m: Number.isFinite(accuracy) ? accuracy : null,
    heading_deg: heading !== null && Number.isFinite(heading) ? heading : null,
    measuredMs: found.timestamp,
  }
}

function fail(error: GeolocationPositionError): void {
  positionProblem.value = error.code === error.PERMISSION_DENIED ? 'denied' : 'failed'
}

async function share(client: Client, clockOffsetMs: number): Promise<void> {
  const here = position.value
  if (!here) return
  const now = Date.now()
  if (sent && now - sent.atMs < SEND_EVERY_MS) return
  const moved = !sent || metresBetween(sent, here) > MOVED_M
  if (!moved && sent && now - sent.atMs < SEND_AGAIN_MS) return
  sent = { atMs: now, lon: here.lon, lat: here.lat }
  // A phone's clock may be wrong by minutes; the server's is what positions are compared by.
  const measured_at = new Date(Math.min(here.measuredMs, now) + clockOffsetMs).toISOString()
  const { lon, lat, accuracy_m, heading_deg } = here
  try {
    await client.post('/me/position', { lon, lat, accuracy_m, heading_deg, measured_at, crs: 'EPSG:4326' })
  } catch (problem) {
    // A position that is lost is replaced by the next one.
    if (problem instanceof Problem && problem.passing) sent = null
  }
}

/** Watches until the returned function is called. */
export function sharePosition(client: Client, clockOffsetMs: () => number): () => void {
  if (!('geolocation' in navigator)) {
    positionProblem.value = 'failed'
    return () => undefined
  }
  watching = navigator.geolocation.watchPosition(take, fail, { enableHighAccuracy: true, maximumAge: 10_000 })
  const timer = setInterval(() => void share(client, clockOffsetMs()), 3000)
  return () => {
    if (watching !== null) navigator.geolocation.clearWatch(watching)
    watching = null
    sent = null
    position.value = null
    clearInterval(timer)
  }
}

/** A position of now: the watched one when it is fresh, else asked for. Null when there is none. */
export async function currentFix(): Promise<Fix | null> {
  const known = position.value
  if (known && Date.now() - known.measuredMs < FRESH_MS) return toFix(known)
  if (!('geolocation' in navigator)) return null
  try {
    const found = await new Promise<GeolocationPosition>((resolve, reject) =>
      navigator.geolocation.getCurrentPosition(resolve, reject, { enableHighAccuracy: true, timeout: 10_000 }),
    )
    take(found)
  } catch (error) {
    if (error instanceof GeolocationPositionError) fail(error)
  }
  return position.value ? toFix(position.value) : null
}

function toFix({ lon, lat, accuracy_m }: Position): Fix {
  return { lon, lat, accuracy_m }
}
