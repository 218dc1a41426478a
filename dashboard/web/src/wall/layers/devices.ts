import type { Feature } from 'geojson'
import { deviceLook } from '@/model/device'
import { isOnEarth } from '@/model/geometry'
import { EMPTY, FONT, once, setFeatures, type MapLayer } from '../map/layer'
import { DEVICE_KINDS } from '../map/symbols'

/** Devices by kind and state; what is wrong is drawn above what is well, and stays when the map is far away. */
const changed = once()
const RANK = { ok: 0, unknown: 1, offline: 2, fault: 3, alarm: 4 }

export const LAYER: MapLayer = {
  id: 'devices',
  order: 50,
  title: 'layer.devices',
  listed: true,
  styleIds: ['device-far', 'device-near', 'device-name'],
  pickIds: ['device-near', 'device-far'],
  add(map, scene) {
    const { colours } = scene
    map.addSource('device', { type: 'geojson', data: EMPTY })
    map.addLayer({
      id: 'device-far',
      type: 'circle',
      source: 'device',
      maxzoom: 13.2,
      paint: {
        'circle-radius': 2.6,
        'circle-color': ['case', ['==', ['get', 'look'], 'alarm'], colours.red, colours['line-strong']],
        'circle-opacity': 0.8,
      },
    })
    map.addLayer({
      id: 'device-near',
      type: 'symbol',
      source: 'device',
      minzoom: 13.2,
      layout: {
        'icon-image': ['concat', 'device-', ['get', 'symbol'], '-', ['get', 'look']],
        'icon-size': ['interpolate', ['linear'], ['zoom'], 13.2, 0.6, 16, 1],
        'icon-allow-overlap': true,
        'symbol-sort-key': ['get', 'rank'],
      },
    })
    map.addLayer({
      id: 'device-name',
      type: 'symbol',
      source: 'device',
      minzoom: 16.2,
      layout: {
        'text-field': ['get', 'name'],
        'text-font': FONT,
        'text-size': 12,
        'text-anchor': 'top',
        'text-offset': [0, 1.2],
        'text-optional': true,
      },
      paint: { 'text-color': colours.muted, 'text-halo-color': colours.page, 'text-halo-width': 1.4 },
    })
    changed('', () => undefined)
  },
  update(map, scene) {
    const features: Feature[] = []
    for (const device of scene.city.devices.value.values()) {
      if (!isOnEarth(device.lon, device.lat)) continue
      const look = deviceLook(device, scene.nowMs)
      features.push({
        type: 'Feature',
        id: device.map_id,
        properties: {
          id: device.id,
          name: device.name,
          symbol: DEVICE_KINDS.includes(device.kind) ? device.kind : 'other',
          look,
          rank: RANK[look],
        },
        geometry: { type: 'Point', coordinates: [device.lon, device.lat] },
      })
    }
    const signature = features.map((one) => `${one.id}${one.properties?.look}${one.properties?.name}`).join()
    changed(`${signature}|`, () => setFeatures(map, 'device', features))
  },
  pick: (feature) => ({ deviceId: String(feature.properties?.id) }),
}
