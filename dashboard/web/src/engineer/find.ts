import type { Client } from '@/api/client'
import { Problem } from '@/api/client'
import type { Device } from '@/api/types'

/** The id of the device with exactly this code. Raises Problem `unknown_device`. */
export async function findDeviceId(client: Pick<Client, 'get'>, code: string): Promise<string> {
  const found = await client.get<Device[]>(`/devices?q=${encodeURIComponent(code)}&limit=200`)
  const device = found.find((one) => one.code === code)
  if (!device) throw new Problem(404, 'unknown_device')
  return device.id
}
