/** The map takes its colours from the style sheet, so that a light is the same light everywhere. */
const NAMES = [
  'page',
  'panel',
  'raised',
  'line',
  'line-strong',
  'text',
  'muted',
  'green',
  'amber',
  'red',
  'urgent',
  'stale',
  'focus',
  'staff',
] as const

export type ColourName = (typeof NAMES)[number]
export type Colours = Record<ColourName, string> & Record<'road' | 'roadEdge' | 'water' | 'building' | 'park' | 'lot', string>

const GROUND = {
  dark: { road: '#2f3940', roadEdge: '#1d2429', water: '#1a323f', building: '#20272d', park: '#18271f', lot: '#252d33' },
  light: { road: '#ffffff', roadEdge: '#d3d9dd', water: '#cfe0ea', building: '#e4e8ea', park: '#dfeae2', lot: '#e9ecee' },
}

export function readColours(theme: 'dark' | 'light'): Colours {
  const style = getComputedStyle(document.documentElement)
  const entries = NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()] as const)
  return { ...(Object.fromEntries(entries) as Record<ColourName, string>), ...GROUND[theme] }
}
