/** What the detector said of a camera's picture, and which of it belongs to the frame on the screen. */

export type Corner = [x: number, y: number]
export type BoxCorners = [x1: number, y1: number, x2: number, y2: number]

export interface SeenTrack {
  id: number
  label: string
  /** Of the picture, 0..1. */
  box: BoxCorners
  score: number
  still_since: string | null
}

export interface SeenZone {
  name: string
  rule: string
  state: 'quiet' | 'watching' | 'raised' | 'suspended'
  value: number | null
}

export interface Look {
  at: string
  seq: number
  width: number
  height: number
  tracks: SeenTrack[]
  zones: SeenZone[]
  skipped_fps?: number
  behind_s?: number
  /** On the medium's own clock, as the server placed it. */
  media_s?: number
}

export interface KeptLook {
  look: Look
  /** Where in the medium it was seen; null when that cannot be said. */
  mediaS: number | null
  atMs: number
}

/** Boxes older than this say nothing about what is there now. */
export const LOOK_LASTS_MS = 3000
const KEEP = 60
const EARLY_S = 0.06
const LATE_S = 1.5

export class LookLine {
  private list: KeptLook[] = []

  add(kept: KeptLook): void {
    this.list.push(kept)
    if (this.list.length > KEEP) this.list.splice(0, this.list.length - KEEP)
  }

  clear(): void {
    this.list = []
  }

  get newest(): KeptLook | null {
    return this.list[this.list.length - 1] ?? null
  }

  /** The look that goes with the frame at `mediaS`: the last one not after it, else the newest; null when all are old. */
  pick(mediaS: number | null, nowMs: number): KeptLook | null {
    const { newest } = this
    if (!newest || nowMs - newest.atMs > LOOK_LASTS_MS) return null
    if (mediaS === null) return newest
    let before: KeptLook | null = null
    let after: KeptLook | null = null
    for (const one of this.list) {
      if (one.mediaS === null) continue
      if (one.mediaS > mediaS + EARLY_S) {
        after = one
        break
      }
      before = one
    }
    if (before && mediaS - before.mediaS! > LATE_S) before = null
    if (after && after.mediaS! - mediaS > LATE_S) after = null
    if (before && after) return between(before, after, mediaS)
    return before ?? after ?? newest
  }
}

/** Where things were between two looks: those seen in both, on the straight way; the others as in the nearer look. */
export function between(before: KeptLook, after: KeptLook, mediaS: number): KeptLook {
  const [from, to] = [before.mediaS!, after.mediaS!]
  const share = to > from ? Math.min(1, Math.max(0, (mediaS - from) / (to - from))) : 1
  const near = share < 0.5 ? before : after
  const far = share < 0.5 ? after : before
  const tracks = near.look.tracks.map((track) => {
    const other = far.look.tracks.find((one) => one.id === track.id)
    if (!other) return track
    const [a, b] = share < 0.5 ? [track.box, other.box] : [other.box, track.box]
    return { ...track, box: a.map((value, index) => value + (b[index]! - value) * share) as BoxCorners }
  })
  return { ...near, look: { ...near.look, tracks }, mediaS }
}
