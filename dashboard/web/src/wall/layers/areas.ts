import { FONT, layerUrl, type MapLayer } from '../map/layer'

/** Streets, communities and responsibility grids: each from the zoom at which it helps. */
const LEVELS = [
  { name: 'area-grid', from: 15, to: 24, labelFrom: 16.2, labelTo: 24, width: 0.8, dash: [2, 3], size: 11 },
  { name: 'area-community', from: 12.8, to: 24, labelFrom: 13.4, labelTo: 16.2, width: 1, dash: [4, 3], size: 12 },
  { name: 'area-street', from: 8, to: 24, labelFrom: 10, labelTo: 14.6, width: 1.8, dash: [1, 0], size: 14 },
] as const

export const LAYER: MapLayer = {
  id: 'areas',
  order: 20,
  title: 'layer.areas',
  listed: true,
  styleIds: LEVELS.flatMap(({ name }) => [`${name}-line`, `${name}-name`]),
  add(map, scene) {
    const { colours } = scene
    for (const level of LEVELS) {
      const url = layerUrl(scene, level.name)
      if (!url) continue
      map.addSource(level.name, { type: 'geojson', data: url, tolerance: 0.4 })
      map.addLayer({
        id: `${level.name}-line`,
        type: 'line',
        source: level.name,
        minzoom: level.from,
        maxzoom: level.to,
        layout: { 'line-join': 'round' },
        paint: {
          'line-color': colours['line-strong'],
          'line-opacity': level.name === 'area-street' ? 0.75 : 0.5,
          'line-width': level.width,
          'line-dasharray': [...level.dash],
        },
      })
      map.addLayer({
        id: `${level.name}-name`,
        type: 'symbol',
        source: level.name,
        minzoom: level.labelFrom,
        maxzoom: level.labelTo,
        layout: {
          'text-field': ['get', 'name'],
          'text-font': FONT,
          'text-size': level.size,
          'text-letter-spacing': level.name === 'area-street' ? 0.12 : 0.04,
          'text-max-width': 12,
          'text-padding': 8,
        },
        paint: {
          'text-color': level.name === 'area-street' ? colours.text : colours.muted,
          'text-opacity': level.name === 'area-street' ? 0.85 : 1,
          'text-halo-color': colours.page,
          'text-halo-width': 1.6,
        },
      })
    }
  },
}
