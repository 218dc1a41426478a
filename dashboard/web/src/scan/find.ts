/** Whoever reads a device's label: which log-in this browser has, and the device of that code. */
import { Client, Problem } from '@/api/client'
import type { Device, Me, Seat } from '@/api/types'
import { read } from '@/ui/preferences'

export interface Found {
  client: Client
  me: Me
  device: Device
}

export function readCode(pathname: string): string {
  return decodeURIComponent(/^\/device\/([^/]+)\/?$/.exec(pathname)?.[1] ?? '')
}

/** The seat that was used last, else the one that fits the screen, first; null when nobody is signed in. */
export async function findSession(widthPx: number): Promise<{ client: Client; me: Me } | null> {
  const first: Seat = (read('seat') ?? (widthPx < 700 ? 'phone' : 'wall')) === 'phone' ? 'phone' : 'wall'
  const seats: Seat[] = first === 'phone' ? ['phone', 'wall'] : ['wall', 'phone']
  for (const seat of seats) {
    const client = new Client(seat)
    try {
      return { client, me: await client.get<Me>('/me') }
    } catch (problem) {
      if (!(problem instanceof Problem) || problem.status !== 401) throw problem
    }
  }
  return null
}

/** Raises Problem `unknown_device` when there is none of this code in the reader's area. */
export async function findDevice(client: Pick<Client, 'get'>, code: string): Promise<Device> {
  const found = await client.get<Device[]>(`/devices?q=${encodeURIComponent(code)}&limit=200`)
  const device = found.find((one) => one.code === code)
  if (!device) throw new Problem(404, 'unknown_device')
  return device
}
