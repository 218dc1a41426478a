/** A camera's scene as the server keeps it, and what is wrong with a draft of it. */
import type { Schema } from '@/api/things'
import { missingFields, readFields, type Values } from '@/form/schema'
import type { Corner } from '@/video/looks'
import { areaOf, crosses, LEAST_AREA, type Polygon } from './geometry'

export interface SceneZone {
  name: string
  rule: string
  polygon: Polygon
  parameters: Values
  lon?: number | null
  lat?: number | null
  /** Empty: a camera that stands still. */
  preset?: string
}

export interface Ground {
  points: Corner[]
  metres: [east: number, north: number][]
}

export interface Preset {
  name: string
  view?: unknown
}

/** What else a scene holds is kept as it came. */
export interface Scene {
  zones: SceneZone[]
  ground?: Ground | null
  presets?: Preset[]
  [more: string]: unknown
}

export interface VisionRule {
  name: string
  title_zh: string
  title_en: string
  schema: Schema
}

export interface SceneAnswer {
  scene: Scene
  version: number
  rules: VisionRule[]
}

export interface RehearsalFinding {
  rule: string
  zone: string
  category: string
  started_at: string
  raised_at: string
  cleared_at: string | null
  box: [number, number, number, number] | null
  score: number | null
  picture: string | null
}

export interface Rehearsal {
  state: 'waiting' | 'running' | 'done' | 'failed' | 'cancelled'
  progress: number | null
  seconds: number | null
  findings: RehearsalFinding[]
  error: string | null
}

export type ZoneFault = 'few_corners' | 'crosses' | 'no_area' | 'no_name' | 'double_name' | 'no_rule' | 'missing'

/** What is wrong with a zone, worst first; null when the server should take it. */
export function zoneFault(zone: SceneZone, all: SceneZone[], rules: VisionRule[]): ZoneFault | null {
  if (zone.polygon.length < 3) return 'few_corners'
  if (crosses(zone.polygon)) return 'crosses'
  if (areaOf(zone.polygon) < LEAST_AREA) return 'no_area'
  if (!zone.name.trim()) return 'no_name'
  if (all.filter((one) => one.name.trim() === zone.name.trim()).length > 1) return 'double_name'
  const rule = rules.find((one) => one.name === zone.rule)
  if (!rule) return 'no_rule'
  return missingFields(readFields(rule.schema), zone.parameters).length ? 'missing' : null
}

export const LEAST_PAIRS = 4

export type GroundFault = 'few_pairs' | 'one_line' | null

/** Four or more pairs that do not lie on one line, in the picture or on the ground. */
export function groundFault(ground: Ground | null | undefined): GroundFault {
  if (!ground || ground.points.length === 0) return null
  if (ground.points.length < LEAST_PAIRS) return 'few_pairs'
  return spread(ground.points) < 1e-3 || spread(ground.metres) < 1e-3 ? 'one_line' : null
}

/** Width of a set of points across its longest direction, as a share of its length. */
function spread(points: Corner[]): number {
  const [mx, my] = [0, 1].map((axis) => points.reduce((sum, one) => sum + one[axis as 0 | 1], 0) / points.length) as [number, number]
  let [xx, yy, xy] = [0, 0, 0]
  for (const [x, y] of points) {
    xx += (x - mx) ** 2
    yy += (y - my) ** 2
    xy += (x - mx) * (y - my)
  }
  const middle = (xx + yy) / 2
  const root = Math.sqrt(((xx - yy) / 2) ** 2 + xy ** 2)
  return middle + root === 0 ? 0 : (middle - root) / (middle + root)
}

/** A name that no zone has yet. */
export function freshName(stem: string, zones: SceneZone[]): string {
  for (let count = zones.length + 1; ; count += 1) {
    const name = `${stem} ${count}`
    if (!zones.some((one) => one.name === name)) return name
  }
}

/** What is sent: nothing that is empty, numbers as numbers. */
export function tidyScene(scene: Scene): Scene {
  const zones = scene.zones.map((zone) => {
    const kept: SceneZone = { ...zone, name: zone.name.trim(), parameters: {} }
    for (const [name, value] of Object.entries(zone.parameters)) if (value !== undefined && value !== '') kept.parameters[name] = value
    if (kept.lon == null || kept.lat == null) {
      delete kept.lon
      delete kept.lat
    }
    if (!kept.preset) delete kept.preset
    return kept
  })
  const tidy: Scene = { ...scene, zones }
  if (!scene.ground?.points.length) delete tidy.ground
  if (!scene.presets?.length) delete tidy.presets
  return tidy
}
