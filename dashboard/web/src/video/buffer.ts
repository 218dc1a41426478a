/** What to do with the buffer of a live picture: stay near its edge, and never let it grow. Pure, so that it can be tested. */

export interface Span {
  start: number
  end: number
}

/** How far behind the newest frame is shown: enough that a late packet does not stop the picture. */
export const TARGET_S = 0.35
const FAR_S = 2
const NEAR_S = 0.9
/** Seconds kept behind what is shown, cut at a key frame. */
const KEEP_S = 3
/** Without known key frames the cut may lie inside a group of pictures, so more is kept. */
const KEEP_BLIND_S = 40

export interface Step {
  /** Where to jump; null to play on. */
  seekTo: number | null
  rate: number
  /** Media before this instant can go; null when there is nothing worth the work. */
  removeBefore: number | null
}

/**
 * `spans`: buffered media in seconds, ascending. `keyTimes`: instants of the key frames in it, ascending.
 *
 * Removing inside a group of pictures would take the frames up to the next key frame with it, the shown one too.
 */
export function planBuffer(spans: Span[], currentS: number, keyTimes: number[]): Step {
  const last = spans[spans.length - 1]
  const first = spans[0]
  if (!last || !first) return { seekTo: null, rate: 1, removeBefore: null }
  const edge = Math.max(last.start, last.end - TARGET_S)
  const lag = last.end - currentS
  const outside = currentS < last.start - 0.02 || currentS > last.end + 0.02
  const seekTo = outside || lag > FAR_S ? edge : null
  const rate = seekTo === null && lag > NEAR_S ? 1.12 : 1
  const at = seekTo ?? currentS
  let removeBefore: number | null = null
  if (keyTimes.length) {
    const cut = keyTimes.filter((one) => one <= at - KEEP_S).pop()
    if (cut !== undefined && cut - first.start > 1) removeBefore = cut - 0.001
  } else if (at - first.start > 2 * KEEP_BLIND_S) {
    removeBefore = at - KEEP_BLIND_S
  }
  return { seekTo, rate, removeBefore }
}

/** When which part of the medium came: to say how old the shown picture is, and which boxes belong to it. */
export class Arrivals {
  private readonly list: { mediaS: number; atMs: number }[] = []

  constructor(private readonly longest = 600) {}

  add(mediaS: number, atMs: number): void {
    this.list.push({ mediaS, atMs })
    if (this.list.length > this.longest) this.list.splice(0, this.list.length - this.longest)
  }

  clear(): void {
    this.list.length = 0
  }

  /** When the frame shown at `mediaS` came, by this machine's clock. */
  arrivedMs(mediaS: number): number | null {
    let found: number | null = null
    for (const one of this.list) {
      if (one.mediaS > mediaS + 1e-3) break
      found = one.atMs
    }
    return found ?? this.list[0]?.atMs ?? null
  }

  /** What part of the medium came at that time. */
  mediaAt(atMs: number): number | null {
    let found: number | null = null
    for (const one of this.list) {
      if (one.atMs > atMs) break
      found = one.mediaS
    }
    return found
  }
}
