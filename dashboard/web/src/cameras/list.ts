/** Cameras as `GET /cameras` tells them. */
import type { Corner } from '@/video/looks'

export interface CameraZone {
  name: string
  rule: string
  polygon: Corner[]
}

export interface CameraRow {
  id: string
  code: string
  name: string
  lon: number
  lat: number
  status: string
  zones: CameraZone[]
  live: { mode: 'mse' | 'jpeg' | 'none'; codec: string | null; width: number | null; height: number | null; reason: string | null }
  watch: {
    looks_per_s: number | null
    skipped_fps: number | null
    model: string | null
    blind: string | null
    moved: boolean
    preset: string
  } | null
}

export function isTroubled(camera: CameraRow): boolean {
  return camera.status !== 'ok' || camera.live.mode === 'none' || Boolean(camera.watch?.blind) || Boolean(camera.watch?.moved)
}

/** What hides the truth of a picture that may look alive: frozen, blocked, moved. */
export function blindness(camera: CameraRow): string | null {
  return camera.watch?.blind ?? (camera.watch?.moved ? 'moved' : null)
}

export function pickCameras(cameras: CameraRow[], words: string, onlyTroubled: boolean): CameraRow[] {
  const wanted = words.trim().toLowerCase()
  return cameras.filter(
    (one) => (!wanted || `${one.name} ${one.code}`.toLowerCase().includes(wanted)) && (!onlyTroubled || isTroubled(one)),
  )
}
