/** Polygons on a picture: corners are fractions of its width and height, x to the right, y down. */
import type { Corner } from '@/video/looks'

export type Polygon = Corner[]

export const MOST_CORNERS = 100
/** Of the picture: the server refuses a smaller zone as a slip of the hand. */
export const LEAST_AREA = 1e-4

const round = (value: number) => Math.round(value * 1e4) / 1e4

export function clamp([x, y]: Corner): Corner {
  return [round(Math.min(1, Math.max(0, x))), round(Math.min(1, Math.max(0, y)))]
}

export function moveCorner(polygon: Polygon, index: number, to: Corner): Polygon {
  return polygon.map((one, at) => (at === index ? clamp(to) : one))
}

/** The whole shape by so much; at the edge of the picture it stops and keeps its form. */
export function moveAll(polygon: Polygon, [dx, dy]: Corner): Polygon {
  const xs = polygon.map(([x]) => x)
  const ys = polygon.map(([, y]) => y)
  const right = Math.min(Math.max(dx, -Math.min(...xs)), 1 - Math.max(...xs))
  const down = Math.min(Math.max(dy, -Math.min(...ys)), 1 - Math.max(...ys))
  return polygon.map(([x, y]) => clamp([x + right, y + down]))
}

export function insertCorner(polygon: Polygon, edge: number, at?: Corner): Polygon {
  if (polygon.length >= MOST_CORNERS) return polygon
  const from = polygon[edge]!
  const to = polygon[(edge + 1) % polygon.length]!
  const point = at ?? [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2]
  return [...polygon.slice(0, edge + 1), clamp(point), ...polygon.slice(edge + 1)]
}

/** Three corners stay: less is no area. */
export function deleteCorner(polygon: Polygon, index: number): Polygon {
  return polygon.length <= 3 ? polygon : polygon.filter((_, at) => at !== index)
}

/** The edge nearest to a point, and where on it; `aspect`: width over height of the picture, for true distances. */
export function nearestEdge(polygon: Polygon, [x, y]: Corner, aspect: number): { edge: number; point: Corner; distance: number } {
  let best = { edge: 0, point: [x, y] as Corner, distance: Infinity }
  polygon.forEach(([ax, ay], edge) => {
    const [bx, by] = polygon[(edge + 1) % polygon.length]!
    const [dx, dy] = [(bx - ax) * aspect, by - ay]
    const long = dx * dx + dy * dy
    const along = long === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * aspect * dx + (y - ay) * dy) / long))
    const point: Corner = [ax + (bx - ax) * along, ay + (by - ay) * along]
    const distance = Math.hypot((x - point[0]) * aspect, y - point[1])
    if (distance < best.distance) best = { edge, point, distance }
  })
  return best
}

export function areaOf(polygon: Polygon): number {
  let sum = 0
  polygon.forEach(([ax, ay], index) => {
    const [bx, by] = polygon[(index + 1) % polygon.length]!
    sum += ax * by - bx * ay
  })
  return Math.abs(sum) / 2
}

function side([ax, ay]: Corner, [bx, by]: Corner, [cx, cy]: Corner): number {
  return Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
}

function within([ax, ay]: Corner, [bx, by]: Corner, [px, py]: Corner): boolean {
  return px >= Math.min(ax, bx) && px <= Math.max(ax, bx) && py >= Math.min(ay, by) && py <= Math.max(ay, by)
}

function meet(a: Corner, b: Corner, c: Corner, d: Corner): boolean {
  const [s1, s2, s3, s4] = [side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)]
  if (s1 !== s2 && s3 !== s4) return true
  return (s1 === 0 && within(a, b, c)) || (s2 === 0 && within(a, b, d)) || (s3 === 0 && within(c, d, a)) || (s4 === 0 && within(c, d, b))
}

/** True when the outline crosses or touches itself. */
export function crosses(polygon: Polygon): boolean {
  const count = polygon.length
  for (let i = 0; i < count; i += 1) {
    for (let j = i + 1; j < count; j += 1) {
      const neighbours = j === i + 1 || (i === 0 && j === count - 1)
      const [a, b, c, d] = [polygon[i]!, polygon[(i + 1) % count]!, polygon[j]!, polygon[(j + 1) % count]!]
      if (!neighbours) {
        if (meet(a, b, c, d)) return true
      } else {
        // Neighbours share one corner; lying on each other is a spike without width.
        const [shared, first, second] = j === i + 1 ? [b, a, d] : [a, b, c]
        if (side(first, shared, second) === 0 && (within(shared, first, second) || within(shared, second, first))) return true
      }
    }
  }
  return false
}

/** A shape to begin with for whoever draws without a pointer. */
export function middle(): Polygon {
  return [
    [0.35, 0.4],
    [0.65, 0.4],
    [0.65, 0.7],
    [0.35, 0.7],
  ]
}
