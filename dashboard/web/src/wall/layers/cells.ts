import { FONT, layerUrl, once, type MapLayer } from '../map/layer'

/** Unit grid cells, only from the zoom where they help; the cell of the chosen incident always. */
const FROM = 14.8
const choose = once()

export const LAYER: MapLayer = {
  id: 'cells',
  order: 30,
  title: 'layer.cells',
  listed: true,
  styleIds: ['cell-fill', 'cell-line', 'cell-name'],
  add(map, scene) {
    const url = layerUrl(scene, 'cell')
    if (!url) return
    const { colours } = scene
    map.addSource('cell', { type: 'geojson', data: url, tolerance: 0.3 })
    // Invisible, for the code under the pointer.
    map.addLayer({ id: 'cell-fill', type: 'fill', source: 'cell', minzoom: FROM, paint: { 'fill-opacity': 0 } })
    map.addLayer({
      id: 'cell-line',
      type: 'line',
      source: 'cell',
      minzoom: FROM,
      paint: {
        'line-color': colours['line-strong'],
        'line-opacity': ['interpolate', ['linear'], ['zoom'], FROM, 0, FROM + 0.8, 0.38],
        'line-width': 0.7,
      },
    })
    map.addLayer({
      id: 'cell-name',
      type: 'symbol',
      source: 'cell',
      minzoom: 16.4,
      layout: { 'text-field': ['slice', ['get', 'code'], -3], 'text-font': FONT, 'text-size': 11, 'text-padding': 10 },
      paint: { 'text-color': colours.muted, 'text-halo-color': colours.page, 'text-halo-width': 1.2 },
    })
    map.addLayer({
      id: 'cell-chosen',
      type: 'line',
      source: 'cell',
      minzoom: 12.5,
      filter: ['==', ['get', 'code'], scene.selected?.cell_code ?? ''],
      paint: { 'line-color': colours.focus, 'line-width': 1.6, 'line-dasharray': [3, 2] },
    })
    choose('', () => undefined)
  },
  update(map, scene) {
    if (!map.getLayer('cell-chosen')) return
    const code = scene.selected?.cell_code ?? ''
    choose(`${code}|`, () => map.setFilter('cell-chosen', ['==', ['get', 'code'], code]))
  },
}
