/** Map symbols, drawn to canvas: no emoji, no picture files, the same shapes as in the lists. */
import type { Sign } from '@/model/light'
import type { Colours } from './colours'

export const PIXEL_RATIO = 2

export type DeviceLook = 'ok' | 'alarm' | 'fault' | 'offline' | 'unknown'
export const DEVICE_LOOKS: DeviceLook[] = ['ok', 'alarm', 'fault', 'offline', 'unknown']
export const SIGNS: Sign[] = ['none', 'green', 'amber', 'red', 'urgent']

/** Strokes in a box of 24 by 24. */
const GLYPHS: Record<string, string> = {
  camera: 'M4 8.5h10.5v7H4z M14.5 11l5-2.5v7l-5-2.5z',
  smoke_alarm: 'M5 9.5a7 3.2 0 0 1 14 0v1.5H5z M9 14.5c-1.5 1.4 1.2 2.2 0 4 M14.5 14.5c-1.5 1.4 1.2 2.2 0 4',
  door_sensor: 'M7 4.5h10v15H7z M14 12v1.4 M4.5 19.5h15',
  river_sluice: 'M5 5h14 M7 5v8 M17 5v8 M7 9h10 M4 16c2-1.6 3.3-1.6 5.3 0s3.4 1.6 5.4 0 3.3-1.6 5.3 0 M4 19.500c2-1.6 3.3-1.6 5.3 0s3.4 1.6 5.4 0 3.3-1.6 5.3 0',
  parking_gate: 'M5 19V9h3.500v10z M8.5 11.5 20 6.5 M13 9.500v2 M17 7.800v2 M4 19h6',
  other: 'M9 9h6v6H9z',
}
export const DEVICE_KINDS = Object.keys(GLYPHS)

type Painter = (context: CanvasRenderingContext2D) => void

function paint(sizePx: number, painter: Painter): HTMLCanvasElement {
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = sizePx * PIXEL_RATIO
  const context = canvas.getContext('2d')
  if (context) {
    context.scale(PIXEL_RATIO, PIXEL_RATIO)
    context.lineJoin = context.lineCap = 'round'
    painter(context)
  }
  return canvas
}

function diamond(context: CanvasRenderingContext2D, centre: number, radius: number): void {
  context.beginPath()
  context.moveTo(centre, centre - radius)
  context.lineTo(centre + radius, centre)
  context.lineTo(centre, centre + radius)
  context.lineTo(centre - radius, centre)
  context.closePath()
}

function hatch(context: CanvasRenderingContext2D, sizePx: number, colour: string): void {
  context.save()
  context.clip()
  context.strokeStyle = colour
  context.lineWidth = 1
  context.globalAlpha = 0.55
  for (let at = -sizePx; at < sizePx; at += 4) {
    context.beginPath()
    context.moveTo(at, sizePx)
    context.lineTo(at + sizePx, 0)
    context.stroke()
  }
  context.restore()
}

/** Grey and quiet when all is well; a red diamond for an alarm, a triangle for a fault, hatched when silent. */
export function drawDevice(kind: string, look: DeviceLook, colours: Colours): HTMLCanvasElement {
  const size = 30
  const middle = size / 2
  return paint(size, (context) => {
    const quiet = look === 'ok' || look === 'unknown'
    const edge = { ok: colours['line-strong'], unknown: colours.stale, offline: colours.stale, alarm: colours.red, fault: colours.amber }[look]
    context.beginPath()
    if (look === 'alarm') diamond(context, middle, 14)
    else context.roundRect(4, 4, 22, 22, kind === 'camera' ? 5 : 11)
    context.fillStyle = colours.panel
    context.fill()
    if (look === 'offline') hatch(context, size, colours.stale)
    context.strokeStyle = edge
    context.lineWidth = quiet ? 1.2 : 2
    if (look === 'offline' || look === 'unknown') context.setLineDash([3, 3])
    context.stroke()
    context.setLineDash([])
    context.translate(7.5, 7.5)
    context.scale(15 / 24, 15 / 24)
    context.lineWidth = 2.3
    context.strokeStyle = quiet ? colours.text : look === 'offline' ? colours.stale : edge
    if (look === 'ok') context.globalAlpha = 0.8
    context.stroke(new Path2D(GLYPHS[kind] ?? GLYPHS.other))
    if (look !== 'fault') return
    context.resetTransform()
    context.scale(PIXEL_RATIO, PIXEL_RATIO)
    context.beginPath()
    context.moveTo(24, 1)
    context.lineTo(29, 10)
    context.lineTo(19, 10)
    context.closePath()
    context.fillStyle = colours.amber
    context.fill()
  })
}

/** A light on the map; `grouped` leaves room for the count that stands on it. */
export function drawSign(sign: Sign, grouped: boolean, colours: Colours): HTMLCanvasElement {
  const size = grouped ? 46 : 30
  const middle = size / 2
  const radius = grouped ? 15 : 8
  return paint(size, (context) => {
    const colour = sign === 'none' ? colours.stale : colours[sign]
    context.fillStyle = colour
    context.strokeStyle = colours.page
    context.lineWidth = 2
    if (sign === 'green' || sign === 'none') {
      context.beginPath()
      context.arc(middle, middle, radius, 0, 2 * Math.PI)
      if (sign === 'none') context.fillStyle = colours.panel
    } else if (sign === 'amber') {
      context.beginPath()
      context.moveTo(middle, middle - radius * 1.3)
      context.lineTo(middle + radius * 1.25, middle + radius * 0.9)
      context.lineTo(middle - radius * 1.25, middle + radius * 0.9)
      context.closePath()
    } else {
      diamond(context, middle, radius * 1.15)
    }
    context.stroke()
    context.fill()
    context.lineWidth = 1.8
    context.strokeStyle = colour
    if (sign === 'none') context.stroke()
    if (sign === 'red' || sign === 'urgent') {
      diamond(context, middle, radius * 1.15 + 3.4)
      context.stroke()
    }
    if (sign === 'urgent') {
      diamond(context, middle, radius * 1.15 + 6.4)
      context.stroke()
    }
  })
}

/** A person; the heading is a wedge that the map turns. `known` false: the position is old. */
export function drawPerson(known: boolean, colours: Colours): HTMLCanvasElement {
  return paint(26, (context) => {
    const colour = known ? colours.staff : colours.stale
    context.beginPath()
    context.arc(13, 13, 10.5, 0, 2 * Math.PI)
    context.fillStyle = colours.panel
    context.fill()
    context.strokeStyle = colour
    context.lineWidth = 1.6
    if (!known) context.setLineDash([3, 3])
    context.stroke()
    context.setLineDash([])
    context.fillStyle = colour
    context.beginPath()
    context.arc(13, 10, 3.2, 0, 2 * Math.PI)
    context.fill()
    context.beginPath()
    context.arc(13, 20, 5.8, Math.PI, 2 * Math.PI)
    context.fill()
  })
}

export function drawHeading(colours: Colours): HTMLCanvasElement {
  return paint(44, (context) => {
    context.fillStyle = colours.staff
    context.beginPath()
    context.moveTo(22, 1)
    context.lineTo(28, 10)
    context.lineTo(16, 10)
    context.closePath()
    context.fill()
  })
}

/** Every picture the layers name, ready for `map.addImage`. */
export function drawAll(colours: Colours): Map<string, HTMLCanvasElement> {
  const drawn = new Map<string, HTMLCanvasElement>()
  for (const kind of DEVICE_KINDS) {
    for (const look of DEVICE_LOOKS) drawn.set(`device-${kind}-${look}`, drawDevice(kind, look, colours))
  }
  for (const sign of SIGNS) {
    drawn.set(`sign-${sign}`, drawSign(sign, false, colours))
    drawn.set(`group-${sign}`, drawSign(sign, true, colours))
  }
  drawn.set('person-known', drawPerson(true, colours))
  drawn.set('person-old', drawPerson(false, colours))
  drawn.set('heading', drawHeading(colours))
  return drawn
}
