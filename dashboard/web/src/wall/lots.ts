/** Parking lots and their free bays, for the map and the device panel. */
import { shallowRef } from 'vue'
import { Problem } from '@/api/client'
import type { Lot } from '@/api/things'
import { client } from './desk'

const EVERY_MS = 15_000
export const lots = shallowRef<Lot[]>([])

export function watchLots(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  const turn = async () => {
    let goOn = true
    if (!document.hidden) {
      try {
        lots.value = await client.get<Lot[]>('/parking/lots')
      } catch (problem) {
        goOn = !(problem instanceof Problem && (problem.status === 403 || problem.status === 404))
      }
    }
    if (goOn && !stopped) timer = setTimeout(() => void turn(), EVERY_MS)
  }
  void turn()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
