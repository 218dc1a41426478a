import type { GeoJSONSource, Map as Engine } from 'maplibre-gl'
import type { Feature, FeatureCollection } from 'geojson'
import type { Client } from '@/api/client'
import type { Incident, IncidentDetail, MapSummary } from '@/api/types'
import type { Key } from '@/i18n'
import type { City } from '@/model/city'
import type { Colours } from './colours'

/** What a layer may look at when it draws. */
export interface Scene {
  client: Client
  city: City
  summary: MapSummary | null
  colours: Colours
  nowMs: number
  selected: Incident | null
  detail: IncidentDetail | null
}

/** What a click on a layer's feature means. */
export interface Picked {
  incidentId?: string
  deviceId?: string
  cluster?: { source: string; id: number }
}

/** One file in `wall/layers/` exposes one LAYER; adding a layer is adding a file. */
export interface MapLayer {
  id: string
  /** Lower is drawn first. */
  order: number
  title: Key
  /** Listed in the legend with a switch; a layer that belongs to another is not. */
  listed: boolean
  /** Adds sources and style layers. Called again after each change of theme. */
  add: (map: Engine, scene: Scene) => void
  /** Brings moving data up to date: at most once per picture. */
  update?: (map: Engine, scene: Scene) => void
  /** Style layers that the switch shows and hides. */
  styleIds: string[]
  /** Style layers that can be clicked. */
  pickIds?: string[]
  pick?: (feature: Feature) => Picked | null
}

export const FONT = ['Noto Sans SC']

export const EMPTY: FeatureCollection = { type: 'FeatureCollection', features: [] }

export function setFeatures(map: Engine, source: string, features: Feature[]): void {
  const found = map.getSource<GeoJSONSource>(source)
  void found?.setData({ type: 'FeatureCollection', features })
}

/** Address of a layer's file, absolute because a worker fetches it; null when this city has no such layer. */
export function layerUrl(scene: Scene, name: string): string | null {
  const listed = scene.summary?.layers.find((layer) => layer.name === name)
  if (!listed) return null
  const address = new URL(listed.url, location.href)
  address.searchParams.set('seat', scene.client.seat)
  return address.href
}

/** A signature of what is drawn: equal signatures need no new upload. */
export function once(): (signature: string, draw: () => void) => void {
  let last: string | null = null
  return (signature, draw) => {
    if (signature === last) return
    last = signature
    draw()
  }
}
