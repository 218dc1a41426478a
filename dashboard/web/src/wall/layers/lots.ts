import type { Feature } from 'geojson'
import { t } from '@/i18n'
import { isOnEarth } from '@/model/geometry'
import { lotLook } from '@/parking/lot'
import { lots } from '../lots'
import { EMPTY, FONT, once, setFeatures, type MapLayer } from '../map/layer'

/** Free bays of each parking lot, as a label that turns amber and red when few or none are left. */
const changed = once()

export const LAYER: MapLayer = {
  id: 'lots',
  order: 45,
  title: 'layer.lots',
  listed: true,
  styleIds: ['lot-label'],
  add(map, { colours }) {
    map.addSource('lot', { type: 'geojson', data: EMPTY })
    map.addLayer({
      id: 'lot-label',
      type: 'symbol',
      source: 'lot',
      minzoom: 14,
      layout: { 'text-field': ['get', 'text'], 'text-font': FONT, 'text-size': 13, 'text-anchor': 'bottom', 'text-offset': [0, -1.3] },
      paint: {
        'text-color': ['match', ['get', 'look'], 'full', colours.red, 'few', colours.amber, colours.text],
        'text-halo-color': colours.page,
        'text-halo-width': 1.6,
      },
    })
    changed('', () => undefined)
  },
  update(map) {
    const features: Feature[] = []
    for (const lot of lots.value) {
      if (lot.bays_free === null || !isOnEarth(lot.lon, lot.lat)) continue
      features.push({
        type: 'Feature',
        properties: { text: t('parking.map_label', { free: lot.bays_free }), look: lotLook(lot) },
        geometry: { type: 'Point', coordinates: [lot.lon, lot.lat] },
      })
    }
    changed(`${features.map((one) => `${one.properties?.text}${one.properties?.look}`).join()}|`, () => setFeatures(map, 'lot', features))
  },
}
