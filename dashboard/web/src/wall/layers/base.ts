import type { ExpressionSpecification, Map as Engine } from 'maplibre-gl'
import { FONT, layerUrl, type MapLayer, type Scene } from '../map/layer'

/** The ground: what the city itself has on its map. Quiet greys, so that only what is wrong has a colour. */
const ORDER = ['green', 'water', 'parking_lot', 'building', 'road'] as const

const ROAD_WIDTH: ExpressionSpecification = ['interpolate', ['exponential', 1.6], ['zoom'], 11, 0.6, 14, 2.4, 17, 12, 19, 34]
const EDGE_WIDTH: ExpressionSpecification = ['interpolate', ['exponential', 1.6], ['zoom'], 11, 1, 14, 3.6, 17, 14, 19, 37]
const WATER_WIDTH: ExpressionSpecification = ['interpolate', ['exponential', 1.6], ['zoom'], 11, 1.5, 14, 5, 17, 26, 19, 70]

function addGround(map: Engine, scene: Scene, name: (typeof ORDER)[number]): void {
  const { colours } = scene
  const colour = {
    green: colours.park,
    water: colours.water,
    parking_lot: colours.lot,
    building: colours.building,
    road: colours.road,
  }[name]
  map.addLayer({
    id: `base-${name}-fill`,
    type: 'fill',
    source: `base-${name}`,
    filter: ['==', ['geometry-type'], 'Polygon'],
    paint: { 'fill-color': colour, 'fill-outline-color': name === 'building' ? colours.line : colour },
    ...(name === 'building' ? { minzoom: 13.5 } : {}),
  })
  if (name !== 'road' && name !== 'water') return
  if (name === 'road') {
    map.addLayer({
      id: 'base-road-edge',
      type: 'line',
      source: 'base-road',
      filter: ['==', ['geometry-type'], 'LineString'],
      layout: { 'line-cap': 'round', 'line-join': 'round' },
      paint: { 'line-color': colours.roadEdge, 'line-width': EDGE_WIDTH },
    })
  }
  map.addLayer({
    id: `base-${name}-line`,
    type: 'line',
    source: `base-${name}`,
    filter: ['==', ['geometry-type'], 'LineString'],
    layout: { 'line-cap': 'round', 'line-join': 'round' },
    paint: { 'line-color': colour, 'line-width': name === 'road' ? ROAD_WIDTH : WATER_WIDTH },
  })
}

function addNames(map: Engine, scene: Scene): void {
  for (const name of ['road', 'water'] as const) {
    if (!map.getSource(`base-${name}`)) continue
    map.addLayer({
      id: `base-${name}-name`,
      type: 'symbol',
      source: `base-${name}`,
      minzoom: 13.5,
      filter: ['all', ['has', 'name'], ['!=', ['get', 'name'], '']],
      layout: {
        'symbol-placement': 'line',
        'text-field': ['get', 'name'],
        'text-font': FONT,
        'text-size': 12,
        'text-letter-spacing': 0.1,
        'symbol-spacing': 320,
      },
      paint: { 'text-color': scene.colours.muted, 'text-halo-color': scene.colours.page, 'text-halo-width': 1.4 },
    })
  }
}

export const LAYER: MapLayer = {
  id: 'base',
  order: 10,
  title: 'layer.base',
  listed: true,
  styleIds: [
    ...ORDER.map((name) => `base-${name}-fill`),
    'base-road-edge',
    'base-road-line',
    'base-water-line',
    'base-road-name',
    'base-water-name',
  ],
  add(map, scene) {
    for (const name of ORDER) {
      const url = layerUrl(scene, name)
      if (!url) continue
      map.addSource(`base-${name}`, { type: 'geojson', data: url, tolerance: 0.4 })
      addGround(map, scene, name)
    }
    addNames(map, scene)
  },
}
