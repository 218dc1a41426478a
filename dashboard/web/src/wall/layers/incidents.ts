import type { Map as Engine } from 'maplibre-gl'
import type { Feature } from 'geojson'
import { pick } from '@/i18n'
import { isOpen, SIGN_RANK, signOf } from '@/model/light'
import { isOnEarth } from '@/model/geometry'
import { EMPTY, FONT, once, setFeatures, type MapLayer } from '../map/layer'
import { SIGNS } from '../map/symbols'

/** Open incidents by light. A cluster shows its worst light, never its count alone. */
const changed = once()
let pulse: ReturnType<typeof setInterval> | undefined

/** 1 Hz in two steps: a gliding ring would make the map draw sixty pictures a second for eight hours. */
const PULSE_MS = 500

/** Only an urgent incident that nobody has acknowledged moves; who asked for less motion gets the double ring alone. */
function startPulse(map: Engine): void {
  clearInterval(pulse)
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) return
  let out = false
  pulse = setInterval(() => {
    if (!map.getLayer('incident-pulse')) return
    out = !out
    map.setPaintProperty('incident-pulse', 'circle-stroke-opacity', out ? 0 : 0.9)
  }, PULSE_MS)
}

export const LAYER: MapLayer = {
  id: 'incidents',
  order: 80,
  title: 'layer.incidents',
  listed: false,
  styleIds: ['incident-pulse', 'incident-sign', 'incident-group'],
  pickIds: ['incident-sign', 'incident-group'],
  add(map, scene) {
    const { colours } = scene
    map.addSource('incident', {
      type: 'geojson',
      data: EMPTY,
      cluster: true,
      clusterMaxZoom: 14,
      clusterRadius: 34,
      clusterProperties: { worst: ['max', ['get', 'rank']] },
    })
    map.addLayer({
      id: 'incident-pulse',
      type: 'circle',
      source: 'incident',
      filter: ['==', ['get', 'sign'], 'urgent'],
      paint: {
        'circle-opacity': 0,
        'circle-radius': 22,
        'circle-stroke-color': colours.urgent,
        'circle-stroke-width': 2,
        'circle-stroke-opacity': 0.9,
      },
    })
    map.addLayer({
      id: 'incident-group',
      type: 'symbol',
      source: 'incident',
      filter: ['has', 'point_count'],
      layout: {
        'icon-image': ['concat', 'group-', ['at', ['get', 'worst'], ['literal', SIGNS]]],
        'icon-allow-overlap': true,
        'text-field': ['get', 'point_count_abbreviated'],
        'text-font': FONT,
        'text-size': 13,
        'text-allow-overlap': true,
        'symbol-sort-key': ['get', 'worst'],
      },
      paint: { 'text-color': ['case', ['==', ['get', 'worst'], 0], colours.text, colours.page] },
    })
    map.addLayer({
      id: 'incident-sign',
      type: 'symbol',
      source: 'incident',
      filter: ['!', ['has', 'point_count']],
      layout: {
        'icon-image': ['concat', 'sign-', ['get', 'sign']],
        'icon-allow-overlap': true,
        'symbol-sort-key': ['get', 'rank'],
        'text-field': ['step', ['zoom'], '', 14.4, ['get', 'title']],
        'text-font': FONT,
        'text-size': 13,
        'text-anchor': 'bottom',
        'text-offset': [0, -1.2],
        'text-optional': true,
      },
      paint: { 'text-color': colours.text, 'text-halo-color': colours.page, 'text-halo-width': 1.6 },
    })
    changed('', () => undefined)
    startPulse(map)
  },
  update(map, scene) {
    const features: Feature[] = []
    for (const incident of scene.city.incidents.value.values()) {
      if (!isOpen(incident) || !isOnEarth(incident.lon, incident.lat)) continue
      const sign = signOf(incident, scene.nowMs)
      features.push({
        type: 'Feature',
        id: incident.map_id,
        properties: { id: incident.id, sign, rank: SIGN_RANK[sign], title: pick(incident.category) },
        geometry: { type: 'Point', coordinates: [incident.lon, incident.lat] },
      })
    }
    const signature = features.map((one) => `${one.id}${one.properties?.sign}${one.properties?.title}`).join()
    changed(`${signature}|`, () => setFeatures(map, 'incident', features))
  },
  pick(feature) {
    const { id, cluster_id: cluster } = feature.properties ?? {}
    if (cluster !== undefined) return { cluster: { source: 'incident', id: Number(cluster) } }
    return { incidentId: String(id) }
  },
}
