import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { LiveSocket, type Link } from '@/api/live'
import type { LiveMessage } from '@/api/types'
import { buildDelta, buildIncident, buildSnapshot } from './build'

class FakeSocket {
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  readyState = 1
  sent: string[] = []
  constructor(readonly url: string) {}
  send(text: string): void {
    this.sent.push(text)
  }
  close(): void {
    this.readyState = 3
    this.onclose?.({ code: 1005 })
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) })
  }
}

let sockets: FakeSocket[]
let received: LiveMessage[][]
let links: Link[]
let live: LiveSocket
let frames: (() => void)[]

function last(): FakeSocket {
  return sockets.at(-1) as FakeSocket
}
function drawFrame(): void {
  for (const work of frames.splice(0)) work()
}

beforeEach(() => {
  vi.useFakeTimers()
  sockets = []
  received = []
  links = []
  frames = []
  live = new LiveSocket({
    url: (since) => `ws://city/live?since=${since ?? ''}`,
    receive: (messages) => received.push(messages),
    linkChanged: (link) => links.push(link),
    random: () => 1,
    nextFrame: (work) => frames.push(work),
    open: (url) => {
      sockets.push(new FakeSocket(url))
      return last() as unknown as WebSocket
    },
  })
  live.start()
})
afterEach(() => {
  live.stop()
  vi.useRealTimers()
})

const incident = buildIncident()

describe('the live connection', () => {
  it('hands a burst of messages over once per picture', () => {
    last().say(buildSnapshot(5))
    for (let seq = 6; seq < 200; seq += 1) last().say(buildDelta(seq, incident))
    expect(received).toHaveLength(0)
    drawFrame()
    expect(received).toHaveLength(1)
    expect(received[0]).toHaveLength(195)
  })

  it('resumes by the last number it saw', () => {
    last().say(buildSnapshot(5))
    last().say(buildDelta(9, incident))
    last().onclose?.({ code: 1006 })
    vi.advanceTimersByTime(500)
    expect(last().url).toBe('ws://city/live?since=9')
  })

  it('drops a delta that it has seen already', () => {
    last().say(buildSnapshot(5))
    last().say(buildDelta(5, incident))
    last().say(buildDelta(6, incident))
    last().say(buildDelta(6, incident))
    drawFrame()
    expect(received[0]?.map((message) => message.type)).toEqual(['snapshot', 'delta'])
  })

  it('waits twice as long after each failure, up to fifteen seconds, and starts anew after a success', () => {
    const waits: number[] = []
    for (let failure = 0; failure < 8; failure += 1) {
      const before = sockets.length
      last().onclose?.({ code: 1006 })
      let waited = 0
      while (sockets.length === before) {
        vi.advanceTimersByTime(100)
        waited += 100
      }
      waits.push(waited)
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 15000, 15000, 15000])
    last().say(buildSnapshot(1))
    const before = sockets.length
    last().onclose?.({ code: 1006 })
    vi.advanceTimersByTime(500)
    expect(sockets.length).toBe(before + 1)
  })

  it('says it is silent after twelve seconds without a word, and opens another', () => {
    last().say(buildSnapshot(3))
    vi.advanceTimersByTime(11_000)
    expect(links).toEqual(['live'])
    vi.advanceTimersByTime(2_000)
    expect(links).toEqual(['live', 'silent'])
    expect(sockets).toHaveLength(2)
    expect(last().url).toBe('ws://city/live?since=3')
  })

  it('stays live on pings alone', () => {
    last().say(buildSnapshot(3))
    for (let tick = 0; tick < 10; tick += 1) {
      vi.advanceTimersByTime(5_000)
      last().say({ type: 'ping', at: '2026-11-20T08:00:00Z' })
    }
    expect(links).toEqual(['live'])
  })

  it('does not try again when the session is gone', () => {
    last().onclose?.({ code: 4401 })
    vi.advanceTimersByTime(60_000)
    expect(sockets).toHaveLength(1)
    expect(links).toEqual(['refused'])
  })

  it('is not ended by a message that is no JSON', () => {
    last().onmessage?.({ data: '{' })
    last().say(buildSnapshot(1))
    drawFrame()
    expect(received).toHaveLength(1)
  })
})
