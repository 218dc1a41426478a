/** A curve's data, made ready for drawing and for export. Nothing here knows the drawing library. */
import type { Curve, Forecast } from '@/api/things'

/** Instant in milliseconds and a value; null breaks the line. */
export type Vertex = [atMs: number, value: number | null]

export interface Lines {
  value: Vertex[]
  least: Vertex[]
  /** Greatest less least: drawn on top of `least`, it is the band between the two. */
  spread: Vertex[]
  gaps: [fromMs: number, toMs: number][]
  hasBand: boolean
}

/**
 * Lines that break at the gaps that the server names.
 *
 * A gap is never bridged: a straight line over it would claim readings that nobody took.
 */
export function buildLines(curve: Curve): Lines {
  const gaps = curve.gaps.map((gap): [number, number] => [Date.parse(gap.from), Date.parse(gap.to)])
  const lines: Lines = { value: [], least: [], spread: [], gaps, hasBand: false }
  const push = (atMs: number, value: number | null, least: number | null, greatest: number | null) => {
    lines.value.push([atMs, value])
    lines.least.push([atMs, least])
    lines.spread.push([atMs, least === null || greatest === null ? null : greatest - least])
  }
  let nextGap = 0
  let lastMs = -Infinity
  for (const point of curve.points) {
    const atMs = Date.parse(point.at)
    while (nextGap < gaps.length && gaps[nextGap]![0] < atMs) {
      const fromMs = gaps[nextGap]![0]
      if (lastMs !== -Infinity) push(Math.max(lastMs + 1, fromMs + 1), null, null, null)
      nextGap += 1
    }
    lastMs = atMs
    if (point.greatest > point.least) lines.hasBand = true
    push(atMs, point.value, point.least, point.greatest)
  }
  return lines
}

export interface ForecastLines {
  value: Vertex[]
  low: Vertex[]
  spread: Vertex[]
}

export function buildForecast(forecast: Forecast | null): ForecastLines | null {
  if (!forecast?.points.length) return null
  const at = (text: string) => Date.parse(text)
  return {
    value: forecast.points.map((one) => [at(one.at), one.value]),
    low: forecast.points.map((one) => [at(one.at), one.low]),
    spread: forecast.points.map((one) => [at(one.at), one.high - one.low]),
  }
}

function quote(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** For a spreadsheet: UTF-8 with its mark, gaps as a line of their own so that they are not read as a zero. */
export function writeCsv(curve: Curve, title: string): string {
  const unit = curve.unit ? ` (${curve.unit})` : ''
  const head = ['at_utc', `${title}${unit}`, 'least', 'greatest', 'n'].map(quote).join(',')
  const lines = curve.points.map((point) => ({
    at: point.at,
    text: [point.at, point.value, point.least, point.greatest, point.n].join(','),
  }))
  for (const gap of curve.gaps) lines.push({ at: gap.from, text: `${gap.from},,,,0` })
  lines.sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
  return '\ufeff' + [head, ...lines.map((line) => line.text)].join('\r\n') + '\r\n'
}

/** Hands a file to the browser. */
export function saveFile(name: string, content: Blob | string): void {
  const url = typeof content === 'string' ? content : URL.createObjectURL(content)
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  if (typeof content !== 'string') setTimeout(() => URL.revokeObjectURL(url), 10_000)
}
