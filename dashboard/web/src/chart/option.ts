/** What the drawing library is told about a curve. */
import type { ForecastLines, Lines } from './curve'

export interface Ink {
  text: string
  muted: string
  line: string
  panel: string
  focus: string
  stale: string
  amber: string
}

export function readInk(element: Element): Ink {
  const style = getComputedStyle(element)
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim()
  return {
    text: colour('text'),
    muted: colour('muted'),
    line: colour('line'),
    panel: colour('panel'),
    focus: colour('focus'),
    stale: colour('stale'),
    amber: colour('amber'),
  }
}

export interface Labels {
  gap: string
  now: string
  value: (value: number) => string
  time: (atMs: number) => string
  axisTime: (atMs: number) => string
  tooltip: (atMs: number) => string
}

export interface Span {
  fromMs: number
  toMs: number
  nowMs: number
}

/** `silent` lines that only carry a band: invisible foot, filled spread. */
function bandSeries(stack: string, low: unknown[], spread: unknown[], colour: string, opacity: number) {
  const hidden = { type: 'line', stack, stackStrategy: 'all', symbol: 'none', silent: true, lineStyle: { opacity: 0 } }
  return [
    { ...hidden, data: low },
    { ...hidden, data: spread, areaStyle: { color: colour, opacity } },
  ]
}

export function buildOption(lines: Lines, forecast: ForecastLines | null, span: Span, ink: Ink, labels: Labels, zoom: boolean) {
  const series: object[] = []
  if (lines.hasBand) series.push(...bandSeries('band', lines.least, lines.spread, ink.focus, 0.18))
  if (forecast) series.push(...bandSeries('forecast', forecast.low, forecast.spread, ink.amber, 0.2))
  series.push({
    type: 'line',
    data: lines.value,
    showSymbol: lines.value.length < 60,
    symbolSize: 4,
    connectNulls: false,
    lineStyle: { width: 1.6, color: ink.focus },
    itemStyle: { color: ink.focus },
    markArea: {
      silent: true,
      itemStyle: { color: ink.stale, opacity: 0.16 },
      label: { show: true, color: ink.muted, fontSize: 11, position: 'insideTop' },
      data: lines.gaps.map(([from, to]) => [
        { xAxis: from, name: to - from > (span.toMs - span.fromMs) / 14 ? labels.gap : '' },
        { xAxis: to },
      ]),
    },
    ...(forecast && {
      markLine: {
        silent: true,
        symbol: 'none',
        lineStyle: { color: ink.muted, type: 'dotted' },
        label: { formatter: labels.now, color: ink.muted, fontSize: 11 },
        data: [{ xAxis: span.nowMs }],
      },
    }),
  })
  if (forecast) {
    const lineStyle = { width: 1.6, color: ink.amber, type: 'dashed' }
    series.push({ type: 'line', data: forecast.value, symbol: 'none', lineStyle, itemStyle: { color: ink.amber } })
  }
  return {
    animation: false,
    textStyle: { fontFamily: "'Noto Sans SC', system-ui, sans-serif", color: ink.text },
    grid: { left: 8, right: 14, top: 18, bottom: zoom ? 48 : 8, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
    xAxis: {
      type: 'time',
      min: span.fromMs,
      max: forecast ? Math.max(span.toMs, forecast.value.at(-1)?.[0] ?? 0) : span.toMs,
      axisLine: { lineStyle: { color: ink.line } },
      axisLabel: { color: ink.muted, hideOverlap: true, formatter: (atMs: number) => labels.axisTime(atMs) },
      splitLine: { show: false },
    },
    yAxis: {
      type: 'value',
      scale: true,
      axisLabel: { color: ink.muted, formatter: (value: number) => labels.value(value) },
      splitLine: { lineStyle: { color: ink.line } },
    },
    tooltip: {
      trigger: 'axis',
      // Drawn on the canvas: tooltips of HTML carry inline styles, which the page's policy refuses.
      renderMode: 'richText',
      backgroundColor: ink.panel,
      borderColor: ink.line,
      textStyle: { color: ink.text, fontSize: 12 },
      axisPointer: { lineStyle: { color: ink.muted } },
      formatter: (items: { axisValue: number }[]) => labels.tooltip(Number(items[0]?.axisValue)),
    },
    dataZoom: zoom
      ? [
          { type: 'inside', filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseWheel: false },
          {
            type: 'slider',
            filterMode: 'none',
            height: 18,
            bottom: 8,
            borderColor: ink.line,
            fillerColor: `${ink.focus}22`,
            textStyle: { color: ink.muted },
            labelFormatter: (atMs: number) => labels.time(atMs),
          },
        ]
      : [],
    series,
  }
}
