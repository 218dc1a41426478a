/** How often each camera was right, week by week, as the server tells it. */
export interface Rate {
  found: number
  right: number
  wrong: number
  precision: number | null
  low: number | null
  high: number | null
}

export type PrecisionRow = Rate & { camera: { id: string; code: string; name: string }; week: string }

export interface Precision {
  rows: PrecisionRow[]
  total: Rate
}

/** `83 % (61–94)`; nothing for what nobody judged. */
export function rateText(rate: Rate): string {
  if (rate.precision === null || rate.low === null || rate.high === null) return ''
  const percent = (share: number) => Math.round(share * 100)
  return `${percent(rate.precision)}% (${percent(rate.low)}–${percent(rate.high)})`
}
