import type { FeatureCollection } from 'geojson'
import type { GeoJSONSource, Map as Engine } from 'maplibre-gl'
import { EMPTY, FONT, layerUrl, type MapLayer, type Scene } from '../map/layer'
import { labelPoints } from '../map/labels'

/** Streets, communities and responsibility grids: each from the zoom at which it helps. */
const LEVELS = [
  { name: 'area-grid', from: 15, labelFrom: 16.2, labelTo: 24, width: 0.8, dash: [2, 3], size: 12 },
  { name: 'area-community', from: 12.8, labelFrom: 13.4, labelTo: 16.2, width: 1, dash: [4, 3], size: 12 },
  { name: 'area-street', from: 8, labelFrom: 10, labelTo: 14.6, width: 1.8, dash: [1, 0], size: 14 },
] as const
type Level = (typeof LEVELS)[number]

const files = new Map<string, Promise<FeatureCollection>>()

/** Each file is fetched once, for its lines and for its labels; a failure is tried again at the next style. */
function readFile(url: string): Promise<FeatureCollection> {
  let file = files.get(url)
  if (!file) {
    file = fetch(url).then((answer) => {
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`)
      return answer.json() as Promise<FeatureCollection>
    })
    file.catch(() => files.delete(url))
    files.set(url, file)
  }
  return file
}

async function fillLevel(map: Engine, name: string, url: string): Promise<void> {
  const areas = await readFile(url)
  void map.getSource<GeoJSONSource>(name)?.setData(areas)
  void map.getSource<GeoJSONSource>(`${name}-label`)?.setData(labelPoints(areas))
}

function addLevel(map: Engine, { colours }: Scene, level: Level): void {
  const isStreet = level.name === 'area-street'
  map.addSource(level.name, { type: 'geojson', data: EMPTY, tolerance: 0.4 })
  map.addSource(`${level.name}-label`, { type: 'geojson', data: EMPTY })
  map.addLayer({
    id: `${level.name}-line`,
    type: 'line',
    source: level.name,
    minzoom: level.from,
    layout: { 'line-join': 'round' },
    paint: {
      'line-color': colours['line-strong'],
      'line-opacity': isStreet ? 0.75 : 0.5,
      'line-width': level.width,
      'line-dasharray': [...level.dash],
    },
  })
  map.addLayer({
    id: `${level.name}-name`,
    type: 'symbol',
    source: `${level.name}-label`,
    minzoom: level.labelFrom,
    maxzoom: level.labelTo,
    layout: {
      'text-field': ['get', 'name'],
      'text-font': FONT,
      'text-size': level.size,
      'text-letter-spacing': isStreet ? 0.12 : 0.04,
      'text-padding': 8,
    },
    paint: {
      'text-color': isStreet ? colours.text : colours.muted,
      'text-halo-color': colours.page,
      'text-halo-width': 1.6,
    },
  })
}

export const LAYER: MapLayer = {
  id: 'areas',
  order: 20,
  title: 'layer.areas',
  listed: true,
  styleIds: LEVELS.flatMap(({ name }) => [`${name}-line`, `${name}-name`]),
  add(map, scene) {
    for (const level of LEVELS) {
      const url = layerUrl(scene, level.name)
      if (!url) continue
      addLevel(map, scene, level)
      fillLevel(map, level.name, url).catch((problem: unknown) => console.warn('map:', problem))
    }
  },
}
