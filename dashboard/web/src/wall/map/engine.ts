import { Map as Engine, NavigationControl, ScaleControl, setWorkerUrl } from 'maplibre-gl'
import workerUrl from 'maplibre-gl/dist/maplibre-gl-worker.mjs?url'
import 'maplibre-gl/dist/maplibre-gl.css'
import type { StyleSpecification } from 'maplibre-gl'
import { isOnEarth } from '@/model/geometry'
import { readFontFaces } from './fonts'
import type { MapLayer, Picked, Scene } from './layer'
import { drawAll, PIXEL_RATIO } from './symbols'

// Bundlers move the worker file; MapLibre must be told where it went.
setWorkerUrl(new URL(workerUrl, location.href).href)

const found = import.meta.glob<{ LAYER: MapLayer }>('../layers/*.ts', { eager: true })

/** All layers, in the order in which they are drawn. */
export const LAYERS: MapLayer[] = Object.values(found)
  .map((module) => module.LAYER)
  .sort((a, b) => a.order - b.order)

const CLICK_REACH_PX = 6

export interface MapDesk {
  engine: Engine
  /** Draws everything again for another theme. */
  restyle: (scene: Scene) => Promise<void>
  /** Asks for an update before the next picture; many calls cause one. */
  refresh: () => void
  /** False when something could not be fetched: the map is then not whole. */
  isWhole: () => boolean
  show: (layer: MapLayer, visible: boolean) => void
  remove: () => void
}

export interface MapHooks {
  scene: () => Scene
  hidden: () => ReadonlySet<string>
  picked: (picked: Picked | null) => void
  pointed: (lon: number, lat: number, cell: string) => void
  failed: (text: string) => void
}

async function makeStyle(scene: Scene): Promise<StyleSpecification> {
  return {
    version: 8,
    'font-faces': await readFontFaces(),
    sources: {},
    layers: [{ id: 'ground', type: 'background', paint: { 'background-color': scene.colours.page } }],
    transition: { duration: 0, delay: 0 },
  }
}

function addEverything(map: Engine, scene: Scene, hidden: ReadonlySet<string>): void {
  for (const [name, canvas] of drawAll(scene.colours)) {
    const pixels = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height)
    if (pixels) map.addImage(name, pixels, { pixelRatio: PIXEL_RATIO })
  }
  for (const layer of LAYERS) {
    layer.add(map, scene)
    if (hidden.has(layer.id)) setVisible(map, layer, false)
  }
}

function setVisible(map: Engine, layer: MapLayer, visible: boolean): void {
  for (const id of layer.styleIds) {
    if (map.getLayer(id)) map.setLayoutProperty(id, 'visibility', visible ? 'visible' : 'none')
  }
}

function pickAt(map: Engine, x: number, y: number): Picked | null {
  const box: [[number, number], [number, number]] = [
    [x - CLICK_REACH_PX, y - CLICK_REACH_PX],
    [x + CLICK_REACH_PX, y + CLICK_REACH_PX],
  ]
  for (const layer of [...LAYERS].reverse()) {
    const ids = (layer.pickIds ?? []).filter((id) => map.getLayer(id))
    if (!layer.pick || ids.length === 0) continue
    const feature = map.queryRenderedFeatures(box, { layers: ids })[0]
    const picked = feature ? layer.pick(feature) : null
    if (picked) return picked
  }
  return null
}

function startView(scene: Scene): { bounds: [number, number, number, number] } | { center: [number, number]; zoom: number } {
  const bounds = scene.summary?.bounds
  if (bounds && isOnEarth(bounds[0], bounds[1]) && isOnEarth(bounds[2], bounds[3])) return { bounds }
  return { center: [120.175, 30.29], zoom: 12 }
}

/** Throws when this browser cannot draw with WebGL. */
export async function openMap(container: HTMLElement, hooks: MapHooks): Promise<MapDesk> {
  const map = new Engine({
    container,
    style: await makeStyle(hooks.scene()),
    ...startView(hooks.scene()),
    fitBoundsOptions: { padding: 24 },
    minZoom: 8,
    maxZoom: 19,
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    fadeDuration: 0,
  })
  map.touchZoomRotate.disableRotation()
  map.addControl(new NavigationControl({ showCompass: false }), 'bottom-right')
  map.addControl(new ScaleControl({ maxWidth: 120, unit: 'metric' }), 'bottom-left')

  let ready = false
  let asked = false
  const draw = () => {
    asked = false
    if (ready) for (const layer of LAYERS) layer.update?.(map, hooks.scene())
  }
  const refresh = () => {
    if (asked) return
    asked = true
    requestAnimationFrame(draw)
  }
  const fillStyle = () => {
    addEverything(map, hooks.scene(), hooks.hidden())
    ready = true
    refresh()
  }
  map.once('load', fillStyle)
  let whole = true
  map.on('error', (event) => {
    whole = false
    hooks.failed(event.error.message)
  })
  map.on('click', (event) => hooks.picked(pickAt(map, event.point.x, event.point.y)))
  map.on('mousemove', (event) => {
    map.getCanvas().style.cursor = pickAt(map, event.point.x, event.point.y) ? 'pointer' : ''
    const ids = map.getLayer('cell-fill') ? ['cell-fill'] : []
    const cell = ids.length ? map.queryRenderedFeatures(event.point, { layers: ids })[0] : undefined
    hooks.pointed(event.lngLat.lng, event.lngLat.lat, String(cell?.properties.code ?? ''))
  })

  return {
    engine: map,
    refresh,
    isWhole: () => ready && whole,
    show: (layer, visible) => setVisible(map, layer, visible),
    restyle: async (scene) => {
      ready = false
      map.setStyle(await makeStyle(scene), { diff: false })
      map.once('style.load', fillStyle)
    },
    remove: () => map.remove(),
  }
}
