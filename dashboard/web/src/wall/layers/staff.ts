import type { Feature } from 'geojson'
import { t } from '@/i18n'
import { span } from '@/model/clock'
import { isOnEarth } from '@/model/geometry'
import { EMPTY, FONT, once, setFeatures, type MapLayer } from '../map/layer'

/** People on duty, with the age of a position as soon as it is older than it should be. */
const changed = once()
const FRESH_S = 60
const OLD_S = 600

export const LAYER: MapLayer = {
  id: 'staff',
  order: 60,
  title: 'layer.staff',
  listed: true,
  styleIds: ['staff-heading', 'staff-person'],
  add(map, scene) {
    const { colours } = scene
    map.addSource('staff', { type: 'geojson', data: EMPTY })
    map.addLayer({
      id: 'staff-heading',
      type: 'symbol',
      source: 'staff',
      minzoom: 13,
      filter: ['has', 'heading'],
      layout: {
        'icon-image': 'heading',
        'icon-rotate': ['get', 'heading'],
        'icon-rotation-alignment': 'map',
        'icon-allow-overlap': true,
        'icon-ignore-placement': true,
      },
    })
    map.addLayer({
      id: 'staff-person',
      type: 'symbol',
      source: 'staff',
      layout: {
        'icon-image': ['case', ['get', 'known'], 'person-known', 'person-old'],
        'icon-size': ['interpolate', ['linear'], ['zoom'], 11, 0.6, 14, 1],
        'icon-allow-overlap': true,
        'icon-ignore-placement': true,
        'text-field': ['step', ['zoom'], '', 13.6, ['get', 'label']],
        'text-font': FONT,
        'text-size': 12,
        'text-anchor': 'left',
        'text-offset': [1.3, 0],
        'text-optional': true,
      },
      paint: {
        'text-color': ['case', ['get', 'known'], colours.staff, colours.stale],
        'text-halo-color': colours.page,
        'text-halo-width': 1.4,
      },
    })
    changed('', () => undefined)
  },
  update(map, scene) {
    const features: Feature[] = []
    for (const person of scene.city.staff.value.values()) {
      const { lon, lat, measured_at: at } = person
      if (!person.on_duty || lon === null || lat === null || !at || !isOnEarth(lon, lat)) continue
      const ageS = (scene.nowMs - Date.parse(at)) / 1000
      const known = ageS < OLD_S
      const label = ageS > FRESH_S ? `${person.name} · ${t('age.ago', { span: span(ageS) })}` : person.name
      const heading = known && person.heading_deg !== null ? { heading: Math.round(person.heading_deg) } : {}
      features.push({
        type: 'Feature',
        id: person.map_id,
        properties: { known, label, ...heading },
        geometry: { type: 'Point', coordinates: [lon, lat] },
      })
    }
    changed(JSON.stringify(features), () => setFeatures(map, 'staff', features))
  },
}
