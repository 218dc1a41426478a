/** Draws zones and boxes over a picture. Meaning is told by shape and words too, never by colour alone. */
import type { Corner, Look, SeenZone } from './looks'

export interface DrawnZone {
  name: string
  polygon: Corner[]
}

export interface DrawWords {
  zone: (zone: DrawnZone, seen: SeenZone | undefined) => string
  track: (label: string, id: number) => string
}

/** Where a picture of that shape lies in a frame when it is shown whole. */
export function fit(frameWidth: number, frameHeight: number, width: number, height: number): [x: number, y: number, w: number, h: number] {
  if (!width || !height) return [0, 0, frameWidth, frameHeight]
  const scale = Math.min(frameWidth / width, frameHeight / height)
  const w = width * scale
  const h = height * scale
  return [(frameWidth - w) / 2, (frameHeight - h) / 2, w, h]
}

const ZONE = { quiet: '#ffffffb0', watching: '#f0b429', raised: '#f2665e', suspended: '#93a0a8' } as const
const BOX = '#5aa9ff'
const STILL = '#f0b429'

function label(context: CanvasRenderingContext2D, frameWidth: number, text: string, x: number, y: number, colour: string): void {
  if (!text) return
  const width = context.measureText(text).width + 8
  const left = Math.max(0, Math.min(x, frameWidth - width))
  const top = Math.max(0, y)
  context.fillStyle = '#111518d0'
  context.fillRect(left, top, width, 16)
  context.fillStyle = colour
  context.fillText(text, left + 4, top + 12)
}

/** `small`: a tile of many, where words would cover the picture: boxes without names, zones named only when something is up. */
export function drawLook(
  context: CanvasRenderingContext2D,
  frame: [width: number, height: number],
  place: [x: number, y: number, w: number, h: number],
  zones: DrawnZone[],
  look: Look | null,
  words: DrawWords,
  small: boolean,
): void {
  const [x, y, w, h] = place
  context.clearRect(0, 0, ...frame)
  context.font = "12px 'Noto Sans SC', system-ui, sans-serif"
  const named: [text: string, x: number, y: number, colour: string][] = []
  for (const zone of zones) {
    const seen = look?.zones.find((one) => one.name === zone.name)
    const state = seen?.state ?? 'quiet'
    const first = zone.polygon[0]
    if (!first) continue
    context.beginPath()
    zone.polygon.forEach(([px, py], index) => {
      if (index) context.lineTo(x + px * w, y + py * h)
      else context.moveTo(x + px * w, y + py * h)
    })
    context.closePath()
    context.strokeStyle = ZONE[state]
    context.lineWidth = state === 'raised' ? 3 : 1.5
    context.setLineDash(state === 'suspended' ? [2, 5] : state === 'quiet' ? [6, 4] : [])
    context.stroke()
    context.setLineDash([])
    if (!small || state === 'raised' || state === 'watching') {
      const top = zone.polygon.reduce((best, one) => (one[1] < best[1] ? one : best), first)
      named.push([words.zone(zone, seen), x + top[0] * w - 4, y + top[1] * h - 18, ZONE[state]])
    }
  }
  for (const track of look?.tracks ?? []) {
    const [x1, y1, x2, y2] = track.box
    const colour = track.still_since ? STILL : BOX
    context.strokeStyle = colour
    context.lineWidth = small ? 1.5 : 2
    context.strokeRect(x + x1 * w, y + y1 * h, (x2 - x1) * w, (y2 - y1) * h)
    if (!small) label(context, frame[0], words.track(track.label, track.id), x + x1 * w, y + y2 * h + 2, colour)
  }
  // Last, so that no box is drawn over them.
  for (const [text, left, top, colour] of named) label(context, frame[0], text, left, top, colour)
}
