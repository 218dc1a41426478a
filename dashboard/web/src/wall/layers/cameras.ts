import type { Feature } from 'geojson'
import { isOnEarth, sector } from '@/model/geometry'
import { EMPTY, once, setFeatures, type MapLayer } from '../map/layer'

/** What each camera can see: a cone on the ground. A camera that is not reporting sees nothing and its cone is hollow. */
const changed = once()

export const LAYER: MapLayer = {
  id: 'cameras',
  order: 40,
  title: 'layer.cones',
  listed: true,
  styleIds: ['cone-fill', 'cone-line'],
  add(map, scene) {
    const { colours } = scene
    map.addSource('cone', { type: 'geojson', data: EMPTY })
    map.addLayer({
      id: 'cone-fill',
      type: 'fill',
      source: 'cone',
      minzoom: 13.5,
      paint: { 'fill-color': colours.text, 'fill-opacity': ['case', ['get', 'seeing'], 0.08, 0] },
    })
    map.addLayer({
      id: 'cone-line',
      type: 'line',
      source: 'cone',
      minzoom: 13.5,
      paint: {
        'line-color': ['case', ['get', 'seeing'], colours.muted, colours.stale],
        'line-opacity': 0.55,
        'line-width': 1,
        'line-dasharray': [3, 2],
      },
    })
    changed('', () => undefined)
  },
  update(map, scene) {
    const features: Feature[] = []
    for (const device of scene.city.devices.value.values()) {
      const { camera, lon, lat } = device
      if (!camera || camera.heading_deg === null || !isOnEarth(lon, lat)) continue
      features.push({
        type: 'Feature',
        id: device.map_id,
        properties: { seeing: device.status === 'ok' || device.status === 'alarm' },
        geometry: {
          type: 'Polygon',
          coordinates: [sector(lon, lat, camera.heading_deg, camera.fov_deg ?? 70, camera.range_m ?? 40)],
        },
      })
    }
    changed(JSON.stringify(features), () => setFeatures(map, 'cone', features))
  },
}
