/**
 * Copies the slices of Noto Sans SC (OFL) out of the npm package and writes one style sheet for them.
 *
 * Pages load a slice only when one of its characters is on the screen; the map and the server's snapshots read the same
 * files through `fonts/unicode.json`. The package's own style sheets also bring `.woff`, which no browser here needs.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Plugin } from 'vite'

const WEIGHTS = [400, 700]
const FAMILY = 'Noto Sans SC'

/** Names in unicode.json are `[4]` for a numbered slice and `latin` for a named one. */
export function sliceName(key: string): string {
  return key.replace(/^\[(\d+)\]$/, '$1')
}

/** Chinese fonts that phones bring, by full and by PostScript name, as `local()` looks them up. */
const PHONE_FONTS = ['PingFang SC', 'PingFangSC-Regular', 'Noto Sans CJK SC', 'NotoSansCJKsc-Regular', 'HarmonyOS Sans SC', 'MiSans']

function writeFaces(ranges: Record<string, string>, weight: number, locals: string[]): string[] {
  const own = locals.map((name) => `local('${name}'),`).join('')
  return Object.entries(ranges).map(
    ([key, range]) =>
      `@font-face{font-family:'${FAMILY}';font-style:normal;font-display:swap;font-weight:${weight};` +
      `src:${own}url(./noto-sans-sc-${sliceName(key)}-${weight}-normal.woff2) format('woff2');unicode-range:${range}}`,
  )
}

/** One `@font-face` for each slice and weight. */
export function writeStyleSheet(ranges: Record<string, string>): string {
  return WEIGHTS.flatMap((weight) => writeFaces(ranges, weight, [])).join('\n') + '\n'
}

/**
 * For phones: the font that the phone has, so that nothing is downloaded, else ours. Chinese only (the numbered slices),
 * one weight; Latin and digits are the system's, bold is drawn by the browser.
 */
export function writePhoneSheet(ranges: Record<string, string>): string {
  const chinese = Object.fromEntries(Object.entries(ranges).filter(([key]) => key.startsWith('[')))
  return writeFaces(chinese, 400, PHONE_FONTS).join('\n') + '\n'
}

export function fonts(): Plugin {
  const home = dirname(createRequire(import.meta.url).resolve('@fontsource/noto-sans-sc/package.json'))
  const table = readFileSync(join(home, 'unicode.json'), 'utf8')
  const ranges = JSON.parse(table) as Record<string, string>
  const files = new Map<string, () => Buffer | string>([
    ['unicode.json', () => table],
    ['LICENSE', () => readFileSync(join(home, 'LICENSE'))],
    ['noto-sans-sc.css', () => writeStyleSheet(ranges)],
    ['phone.css', () => writePhoneSheet(ranges)],
  ])
  for (const weight of WEIGHTS) {
    for (const key of Object.keys(ranges)) {
      const name = `noto-sans-sc-${sliceName(key)}-${weight}-normal.woff2`
      files.set(name, () => readFileSync(join(home, 'files', name)))
    }
  }
  return {
    name: 'gridwarden-fonts',
    generateBundle() {
      for (const [name, read] of files) this.emitFile({ type: 'asset', fileName: `fonts/${name}`, source: read() })
    },
    configureServer(server) {
      server.middlewares.use('/fonts', (request, response, next) => {
        const read = files.get((request.url ?? '').replace(/^\//, '').split('?')[0] ?? '')
        if (!read) return next()
        if (request.url?.includes('.css')) response.setHeader('content-type', 'text/css')
        response.end(read())
      })
    },
  }
}
