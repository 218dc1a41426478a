/** What the wall and the cameras' page say of the detector: what it knows, and when it cannot keep up. */
import type { Client } from '@/api/client'
import { LiveSocket } from '@/api/live'

export interface VisionSummary {
  model: string | null
  rendered_only: boolean
  cameras: number
  looks_per_s: number | null
  skipped_fps: number
}

/** Reads it once from the socket's snapshot, for a page that follows nothing else there. */
export function askVision(client: Client, told: (vision: VisionSummary | null) => void): () => void {
  const socket = new LiveSocket({
    url: () => client.liveUrl(null),
    receive: (messages) => {
      for (const message of messages) {
        if (message.type !== 'snapshot') continue
        told(message.summary.vision ?? null)
        socket.stop()
      }
    },
    linkChanged: (link) => {
      if (link === 'refused') socket.stop()
    },
  })
  socket.start()
  return () => socket.stop()
}
