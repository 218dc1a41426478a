/** Lots as people see them. */
import type { Lot } from '@/api/things'

export type LotLook = 'free' | 'few' | 'full' | 'unknown'

export function lotLook(lot: Pick<Lot, 'bays_free' | 'bays_total'>): LotLook {
  if (lot.bays_free === null) return 'unknown'
  if (lot.bays_free <= 0) return 'full'
  return lot.bays_total && lot.bays_free / lot.bays_total <= 0.1 ? 'few' : 'free'
}

/** The lot of a barrier: the one that stands nearest, within 150 m. */
export function lotOf(lots: Lot[], at: { lon: number; lat: number }): Lot | null {
  let best: Lot | null = null
  let bestM = 150
  for (const lot of lots) {
    const eastM = (lot.lon - at.lon) * 111_320 * Math.cos((at.lat * Math.PI) / 180)
    const metres = Math.hypot(eastM, (lot.lat - at.lat) * 110_540)
    if (metres < bestM) {
      best = lot
      bestM = metres
    }
  }
  return best
}
