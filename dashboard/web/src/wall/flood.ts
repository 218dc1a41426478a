/** Whether alarms come faster than operators can take them, and which of them belong together: the server judges. */
import { shallowRef } from 'vue'
import { Problem } from '@/api/client'
import type { Flood } from '@/api/things'
import { client } from './desk'

const EVERY_MS = 10_000
export const flood = shallowRef<Flood | null>(null)

async function read(): Promise<boolean> {
  try {
    flood.value = await client.get<Flood>('/flood')
  } catch (problem) {
    // A server without it, or a reader who may not: the queue groups by its own length then.
    if (problem instanceof Problem && (problem.status === 403 || problem.status === 404)) return false
  }
  return true
}

export function watchFlood(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  const turn = async () => {
    const goOn = document.hidden || (await read())
    if (goOn && !stopped) timer = setTimeout(() => void turn(), EVERY_MS)
  }
  void turn()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
