import type { Position } from 'geojson'

const METRES_PER_DEGREE = 111_320

/** A point `metres` away; the earth is flat enough over a camera's range. */
export function moveBy(lon: number, lat: number, headingDeg: number, metres: number): Position {
  const angle = (headingDeg * Math.PI) / 180
  const north = (Math.cos(angle) * metres) / METRES_PER_DEGREE
  const east = (Math.sin(angle) * metres) / (METRES_PER_DEGREE * Math.cos((lat * Math.PI) / 180))
  return [lon + east, lat + north]
}

/** The ground a camera may see: a sector as one closed ring. */
export function sector(lon: number, lat: number, headingDeg: number, fovDeg: number, rangeM: number): Position[] {
  const steps = Math.max(4, Math.ceil(fovDeg / 6))
  const ring: Position[] = [[lon, lat]]
  for (let step = 0; step <= steps; step += 1) {
    ring.push(moveBy(lon, lat, headingDeg - fovDeg / 2 + (fovDeg * step) / steps, rangeM))
  }
  ring.push([lon, lat])
  return ring
}

export function metresBetween(a: { lon: number; lat: number }, b: { lon: number; lat: number }): number {
  const east = (a.lon - b.lon) * METRES_PER_DEGREE * Math.cos((a.lat * Math.PI) / 180)
  return Math.hypot(east, (a.lat - b.lat) * METRES_PER_DEGREE)
}

/** One bad longitude must not hang the map. */
export function isOnEarth(lon: unknown, lat: unknown): boolean {
  return Number.isFinite(lon) && Number.isFinite(lat) && Math.abs(lon as number) <= 180 && Math.abs(lat as number) <= 85
}
