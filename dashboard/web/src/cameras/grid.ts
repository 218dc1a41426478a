/** How many cameras a page shows, and where the arrows lead. */

export const LAYOUTS = [1, 2, 3, 4] as const
/** Cameras in a row. */
export type Layout = (typeof LAYOUTS)[number]

export function perPage(layout: Layout): number {
  return layout * layout
}

export function pageCount(cameras: number, layout: Layout): number {
  return Math.max(1, Math.ceil(cameras / perPage(layout)))
}

/** The page on which a camera stays visible when the layout changes. */
export function pageOf(index: number, layout: Layout): number {
  return Math.floor(Math.max(0, index) / perPage(layout))
}

export type Arrow = 'ArrowLeft' | 'ArrowRight' | 'ArrowUp' | 'ArrowDown'

/** The camera that an arrow leads to, over the edges of pages; at the ends it stays. */
export function step(index: number, arrow: Arrow, layout: Layout, cameras: number): number {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout, ArrowDown: layout }[arrow]
  const to = index + by
  if (to >= 0 && to < cameras) return to
  return arrow === 'ArrowDown' && pageOf(index, layout) < pageCount(cameras, layout) - 1 ? cameras - 1 : index
}
