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
  access_door: 'M6 4.5h9v15H6z M12.5 12v1.2 M4 19.5h16 M18 9.5v4 M16.8 9.5a1.7 1.7 0 1 1 2.4 0',
  water_meter: 'M12 5a7 7 0 1 1 0 14a7 7 0 1 1 0-14 M2.5 12H5 M19 12h2.5 M12 8.5c-1.7 2.100-2.400 3.100-2.400 4.200a2.400 2.400 0 0 0 4.800 0c0-1.100-.7-2.100-2.400-4.200',
  siren: 'M5 10v4h3l5 4V6L8 10z M16 9c1.200 1.800 1.200 4.200 0 6 M18.5 6.500c2.600 3.300 2.600 7.700 0 11',
  gateway: 'M4 13.5h16v5.5H4z M7.5 16.300h.1 M12 13.5V8 M8.5 8.5a5 5 0 0 1 7 0 M5.800 5.800a8.800 8.800 0 0 1 12.400 0',
  other: 'M9 9h6v6H9z',
}
export const DEVICE_KINDS = Object.keys(GLYPHS)
export const glyphOf = (kind: string): string => GLYPHS[kind] ?? GLYPHS.other!

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

function diamond(centre: number, radius: number): Path2D {
  const [low, high] = [centre - radius, centre + radius]
  return new Path2D(`M${centre} ${low}L${high} ${centre}L${centre} ${high}L${low} ${centre}Z`)
}

function triangle(centre: number, radius: number): Path2D {
  const foot = centre + radius * 0.9
  return new Path2D(`M${centre} ${centre - radius * 1.3}L${centre + radius * 1.25} ${foot}L${centre - radius * 1.25} ${foot}Z`)
}

function disc(centre: number, radius: number): Path2D {
  const path = new Path2D()
  path.arc(centre, centre, radius, 0, 2 * Math.PI)
  return path
}

function plateOf(kind: string, look: DeviceLook): Path2D {
  if (look === 'alarm') return diamond(15, 14)
  const path = new Path2D()
  path.roundRect(4, 4, 22, 22, kind === 'camera' ? 5 : 11)
  return path
}

function hatch(context: CanvasRenderingContext2D, plate: Path2D, sizePx: number, colour: string): void {
  context.save()
  context.clip(plate)
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
  return paint(size, (context) => {
    const quiet = look === 'ok' || look === 'unknown'
    const edge = { ok: colours['line-strong'], unknown: colours.stale, offline: colours.stale, alarm: colours.red, fault: colours.amber }[look]
    const plate = plateOf(kind, look)
    context.fillStyle = colours.panel
    context.fill(plate)
    if (look === 'offline') hatch(context, plate, size, colours.stale)
    context.strokeStyle = edge
    context.lineWidth = quiet ? 1.2 : 2
    if (look === 'offline' || look === 'unknown') context.setLineDash([3, 3])
    context.stroke(plate)
    context.setLineDash([])
    context.translate(7.5, 7.5)
    context.scale(15 / 24, 15 / 24)
    context.lineWidth = 2.3
    context.strokeStyle = quiet ? colours.text : look === 'offline' ? colours.stale : edge
    if (look === 'ok') context.globalAlpha = 0.8
    context.stroke(new Path2D(glyphOf(kind)))
    if (look !== 'fault') return
    context.resetTransform()
    context.scale(PIXEL_RATIO, PIXEL_RATIO)
    context.fillStyle = colours.amber
    context.fill(new Path2D('M24 1 29 10H19Z'))
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
    const round = sign === 'green' || sign === 'none'
    const shape = round ? disc(middle, radius) : sign === 'amber' ? triangle(middle, radius) : diamond(middle, radius * 1.15)
    if (sign === 'none') context.fillStyle = colours.panel
    context.stroke(shape)
    context.fill(shape)
    context.lineWidth = 1.8
    context.strokeStyle = colour
    if (sign === 'none') context.stroke(shape)
    if (sign === 'red' || sign === 'urgent') context.stroke(diamond(middle, radius * 1.15 + 3.4))
    if (sign === 'urgent') context.stroke(diamond(middle, radius * 1.15 + 6.4))
  })
}

/** A person; the heading is a wedge that the map turns. `known` false: the position is old. */
export function drawPerson(known: boolean, colours: Colours): HTMLCanvasElement {
  return paint(26, (context) => {
    const colour = known ? colours.staff : colours.stale
    context.fillStyle = colours.panel
    context.fill(disc(13, 10.5))
    context.strokeStyle = colour
    context.lineWidth = 1.6
    if (!known) context.setLineDash([3, 3])
    context.stroke(disc(13, 10.5))
    context.setLineDash([])
    context.fillStyle = colour
    context.fill(new Path2D('M9.8 10a3.2 3.2 0 1 1 6.4 0a3.2 3.2 0 1 1-6.4 0 M7.2 20a5.8 5.8 0 0 1 11.6 0Z'))
  })
}

export function drawHeading(colours: Colours): HTMLCanvasElement {
  return paint(44, (context) => {
    context.fillStyle = colours.staff
    context.fill(new Path2D('M22 1 28 10H16Z'))
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
