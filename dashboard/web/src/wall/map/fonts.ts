import type { StyleSpecification } from 'maplibre-gl'

type FontFaces = NonNullable<StyleSpecification['font-faces']>

/**
 * Labels are drawn in the browser with the same font files as the pages: no glyph server. Each slice is fetched when one
 * of its characters is first drawn.
 */
export async function readFontFaces(weight = 400): Promise<FontFaces> {
  const answer = await fetch('/fonts/unicode.json')
  if (!answer.ok) return {}
  const ranges = (await answer.json()) as Record<string, string>
  const faces = Object.entries(ranges).map(([key, range]) => ({
    url: new URL(`/fonts/noto-sans-sc-${key.replace(/[[\]]/g, '')}-${weight}-normal.woff2`, location.href).href,
    'unicode-range': range.split(','),
  }))
  return { 'Noto Sans SC': faces }
}
