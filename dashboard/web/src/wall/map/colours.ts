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
  dark: { road: '#2a3339', roadEdge: '#1c2328', water: '#17262f', building: '#1b2126', park: '#16211d', lot: '#20272c' },
  light: { road: '#ffffff', roadEdge: '#d3d9dd', water: '#cfe0ea', building: '#e4e8ea', park: '#dfeae2', lot: '#e9ecee' },
}

export function readColours(theme: 'dark' | 'light'): Colours {
  const style = getComputedStyle(document.documentElement)
  const entries = NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()] as const)
  return { ...(Object.fromEntries(entries) as Record<ColourName, string>), ...GROUND[theme] }
}
