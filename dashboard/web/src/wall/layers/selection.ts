import type { Feature, Position } from 'geojson'
import { isOnEarth } from '@/model/geometry'
import { EMPTY, once, setFeatures, type MapLayer, type Scene } from '../map/layer'

/** The chosen incident: a ring, and lines to its person and to the devices that reported it. */
const changed = once()

function line(from: Position, to: Position): Feature {
  return { type: 'Feature', properties: {}, geometry: { type: 'LineString', coordinates: [from, to] } }
}

function collect(scene: Scene): Feature[] {
  const { selected, detail, city } = scene
  if (!selected || !isOnEarth(selected.lon, selected.lat)) return []
  const here: Position = [selected.lon, selected.lat]
  const features: Feature[] = [{ type: 'Feature', properties: {}, geometry: { type: 'Point', coordinates: here } }]
  const person = selected.assignee ? city.staff.value.get(selected.assignee.id) : undefined
  if (person?.lon != null && person.lat != null) features.push(line(here, [person.lon, person.lat]))
  const reported = new Set(detail?.id === selected.id ? detail.reports.map((report) => report.device?.id) : [])
  for (const id of reported) {
    const device = id ? city.devices.value.get(id) : undefined
    if (device && isOnEarth(device.lon, device.lat)) features.push(line(here, [device.lon, device.lat]))
  }
  return features
}

export const LAYER: MapLayer = {
  id: 'selection',
  order: 70,
  title: 'layer.incidents',
  listed: false,
  styleIds: ['selection-link', 'selection-ring'],
  add(map, scene) {
    const { colours } = scene
    map.addSource('selection', { type: 'geojson', data: EMPTY })
    map.addLayer({
      id: 'selection-link',
      type: 'line',
      source: 'selection',
      filter: ['==', ['geometry-type'], 'LineString'],
      paint: { 'line-color': colours.focus, 'line-width': 1.4, 'line-dasharray': [2, 2], 'line-opacity': 0.8 },
    })
    map.addLayer({
      id: 'selection-ring',
      type: 'circle',
      source: 'selection',
      filter: ['==', ['geometry-type'], 'Point'],
      paint: {
        'circle-radius': 20,
        'circle-color': colours.focus,
        'circle-opacity': 0.12,
        'circle-stroke-color': colours.focus,
        'circle-stroke-width': 2,
      },
    })
    changed('', () => undefined)
  },
  update(map, scene) {
    const features = collect(scene)
    changed(`${JSON.stringify(features)}|`, () => setFeatures(map, 'selection', features))
  },
}
