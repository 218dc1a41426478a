import type { Feature, FeatureCollection, Position } from 'geojson'

function ringArea(ring: Position[]): number {
  let sum = 0
  for (let at = 0; at < ring.length - 1; at += 1) {
    const [x1, y1] = ring[at]!
    const [x2, y2] = ring[at + 1]!
    sum += x1! * y2! - x2! * y1!
  }
  return sum / 2
}

/** Centre of gravity of a closed ring, taken from its first point so that seven decimals of a degree do not cancel. */
export function ringCentre(ring: Position[]): Position {
  const [x0, y0] = ring[0]! as [number, number]
  const local = ring.map(([x, y]) => [x! - x0, y! - y0])
  const area = ringArea(local)
  if (area === 0) return [x0, y0]
  let x = 0
  let y = 0
  for (let at = 0; at < local.length - 1; at += 1) {
    const [x1, y1] = local[at]! as [number, number]
    const [x2, y2] = local[at + 1]! as [number, number]
    const cross = x1 * y2 - x2 * y1
    x += (x1 + x2) * cross
    y += (y1 + y2) * cross
  }
  return [x0 + x / (6 * area), y0 + y / (6 * area)]
}

function outerRing(feature: Feature): Position[] | null {
  const { geometry } = feature
  if (geometry.type === 'Polygon') return geometry.coordinates[0] ?? null
  if (geometry.type !== 'MultiPolygon') return null
  const rings = geometry.coordinates.map((polygon) => polygon[0] ?? [])
  return rings.sort((a, b) => Math.abs(ringArea(b)) - Math.abs(ringArea(a)))[0] ?? null
}

/** One point for each area: a label placed on the polygon itself is repeated in every tile that it touches. */
export function labelPoints(areas: FeatureCollection): FeatureCollection {
  const features: Feature[] = []
  for (const area of areas.features) {
    const ring = outerRing(area)
    if (!ring || ring.length < 4) continue
    const { name } = area.properties ?? {}
    features.push({ type: 'Feature', properties: { name }, geometry: { type: 'Point', coordinates: ringCentre(ring) } })
  }
  return { type: 'FeatureCollection', features }
}
