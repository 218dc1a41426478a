import type { Role, Seat } from '@/api/types'

const WALL_ROLES: Role[] = ['operator', 'engineer', 'admin', 'handling_dept']

/** The page that fits a person: whoever only works in the street gets the phone page. */
export function fitSeat(roles: Role[], wanted: Seat): Seat {
  const forWall = roles.some((role) => WALL_ROLES.includes(role))
  const forPhone = roles.some((role) => role === 'grid_worker' || role === 'handling_dept')
  if (wanted === 'wall') return forWall || !forPhone ? 'wall' : 'phone'
  return forPhone || !forWall ? 'phone' : 'wall'
}

export function readSeat(search: string, widthPx: number): Seat {
  const named = new URLSearchParams(search).get('seat')
  if (named === 'wall' || named === 'phone') return named
  return widthPx < 700 ? 'phone' : 'wall'
}

/** Where to go after the log-in: only to a page of ours about devices, whatever the address says. */
export function readNext(search: string): string | null {
  const next = new URLSearchParams(search).get('next') ?? ''
  return /^\/devices?(\/[\w.@:-]+)*\/?(\?[^#]*)?$/.test(next) ? next : null
}
