import { describe, expect, it, vi } from 'vitest'
import { step, pageCount, pageOf } from '@/cameras/grid'
import { Arrivals, planBuffer } from '@/video/buffer'
import { readFragment, readTimescale } from '@/video/fragment'
import { LookLine, type Look } from '@/video/looks'
import { LivePlayer, type PlayerReport } from '@/video/player'
import { PartReader } from '@/video/stills'

describe('the buffer of a live picture', () => {
  it('begins at the live edge, wherever the medium begins', () => {
    expect(planBuffer([{ start: 900, end: 904 }], 0, [900]).seekTo).toBeCloseTo(903.65)
  })

  it('plays on when it is near the edge', () => {
    expect(planBuffer([{ start: 900, end: 904 }], 903.5, [900])).toEqual({ seekTo: null, rate: 1, removeBefore: null })
  })

  it('catches up a little by playing faster, and much by a jump', () => {
    expect(planBuffer([{ start: 0, end: 10 }], 8.8, [0]).rate).toBeGreaterThan(1)
    expect(planBuffer([{ start: 0, end: 10 }], 5, [0]).seekTo).toBeCloseTo(9.65)
  })

  it('leaves a hole behind', () => {
    expect(planBuffer([{ start: 0, end: 10 }, { start: 14, end: 14.2 }], 9.9, [0, 14]).seekTo).toBe(14)
  })

  it('is cut at a key frame, well before what is shown, so that it never grows', () => {
    const keys = [0, 4, 8, 12]
    const plan = planBuffer([{ start: 0, end: 13 }], 12.7, keys)
    expect(plan.removeBefore).toBeCloseTo(8, 2)
    expect(plan.removeBefore!).toBeLessThan(8)
    expect(planBuffer([{ start: 8, end: 13 }], 12.7, keys).removeBefore).toBeNull()
  })

  it('stays below a bound over an hour of pictures', () => {
    const keys: number[] = []
    let start = 0
    let longest = 0
    for (let second = 0; second < 3600; second += 1) {
      if (second % 4 === 0) keys.push(second)
      const plan = planBuffer([{ start, end: second + 1 }], second + 0.65, keys)
      if (plan.removeBefore !== null) start = Math.ceil(plan.removeBefore)
      longest = Math.max(longest, second + 1 - start)
    }
    expect(longest).toBeLessThan(12)
  })
})

it('the age of a picture is that of the fragment it came with', () => {
  const arrivals = new Arrivals()
  arrivals.add(10, 1000)
  arrivals.add(11, 2000)
  expect(arrivals.arrivedMs(10.5)).toBe(1000)
  expect(arrivals.arrivedMs(11.2)).toBe(2000)
  expect(arrivals.mediaAt(1500)).toBe(10)
})

function box(type: string, ...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const size = 8 + parts.reduce((sum, one) => sum + one.length, 0)
  const bytes = new Uint8Array(size)
  new DataView(bytes.buffer).setUint32(0, size)
  bytes.set([...type].map((letter) => letter.charCodeAt(0)), 4)
  let at = 8
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}
function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4)
  values.forEach((value, index) => new DataView(bytes.buffer).setUint32(index * 4, value))
  return bytes
}
function fragment(ticks: number, isKey: boolean): ArrayBuffer {
  const time = box('tfdt', words(0x01000000, 0, ticks))
  const run = box('trun', words(0x00000004, 1, isKey ? 0x02000000 : 0x01010000))
  return box('moof', box('mfhd', words(0, 1)), box('traf', box('tfhd', words(0x020000, 1)), time, run)).buffer
}

describe('fragments', () => {
  it('tell their time and whether decoding may begin there', () => {
    expect(readFragment(fragment(90_000, true))).toEqual({ ticks: 90_000, isKey: true })
    expect(readFragment(fragment(180_000, false))).toEqual({ ticks: 180_000, isKey: false })
  })

  it('need the clock of their beginning, and anything else is no fragment', () => {
    const opening = box('moov', box('trak', box('mdia', box('mdhd', words(0, 0, 0, 90_000, 0))))).buffer
    expect(readTimescale(opening)).toBe(90_000)
    expect(readFragment(opening)).toBeNull()
    expect(readTimescale(new Uint8Array([1, 2, 3]).buffer)).toBeNull()
  })
})

describe('boxes over the video', () => {
  const look = (seq: number): Look => ({ at: '2026-11-21T00:00:00Z', seq, width: 640, height: 360, tracks: [], zones: [] })

  it('are those of the frame on the screen, not the newest', () => {
    const line = new LookLine()
    line.add({ look: look(1), mediaS: 10, atMs: 1000 })
    line.add({ look: look(2), mediaS: 10.2, atMs: 1200 })
    line.add({ look: look(3), mediaS: 10.4, atMs: 1400 })
    expect(line.pick(10.25, 1400)?.look.seq).toBe(2)
  })

  it('are on their way between two looks', () => {
    const line = new LookLine()
    const track = (x: number) => ({ id: 7, label: 'vehicle', box: [x, 0, x + 0.1, 0.1] as [number, number, number, number], score: 1, still_since: null })
    line.add({ look: { ...look(1), tracks: [track(0.2)] }, mediaS: 10, atMs: 1000 })
    line.add({ look: { ...look(2), tracks: [track(0.4)] }, mediaS: 11, atMs: 2000 })
    expect(line.pick(10.25, 2000)?.look.tracks[0]?.box[0]).toBeCloseTo(0.25)
  })

  it('fall back to the newest when the clocks say nothing, and end when they are old', () => {
    const line = new LookLine()
    line.add({ look: look(1), mediaS: null, atMs: 1000 })
    expect(line.pick(50, 1500)?.look.seq).toBe(1)
    expect(line.pick(50, 9000)).toBeNull()
  })
})

it('an endless answer is split into its pictures however it is cut', () => {
  const head = (body: string) => `--b\r\nContent-Type: image/jpeg\r\nContent-Length: ${body.length}\r\n\r\n${body}\r\n`
  const whole = new TextEncoder().encode(head('first') + head('second one'))
  const reader = new PartReader()
  const found: string[] = []
  for (let at = 0; at < whole.length; at += 7) {
    for (const part of reader.push(whole.slice(at, at + 7))) found.push(new TextDecoder().decode(part.body))
  }
  expect(found).toEqual(['first', 'second one'])
})

class FakeSocket {
  static all: FakeSocket[] = []
  binaryType = ''
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  closed = false
  constructor(readonly url: string) {
    FakeSocket.all.push(this)
  }
  close(): void {
    this.closed = true
  }
}

describe('the player', () => {
  function begin(): { player: LivePlayer; reports: PlayerReport[] } {
    vi.useFakeTimers()
    FakeSocket.all = []
    const reports: PlayerReport[] = []
    const player = new LivePlayer({
      video: document.createElement('video'),
      url: () => 'ws://x/live',
      changed: (report) => reports.push(report),
      open: (url) => new FakeSocket(url) as unknown as WebSocket,
      random: () => 1,
    })
    return { player, reports }
  }
  const last = () => FakeSocket.all[FakeSocket.all.length - 1]!

  it('comes back by itself, waiting longer each time', () => {
    const { player, reports } = begin()
    last().onclose?.({ code: 4503 })
    expect(reports.at(-1)).toMatchObject({ state: 'away', reason: 'camera_unreachable' })
    vi.advanceTimersByTime(499)
    expect(FakeSocket.all).toHaveLength(1)
    vi.advanceTimersByTime(2)
    expect(FakeSocket.all).toHaveLength(2)
    last().onclose?.({ code: 4503 })
    vi.advanceTimersByTime(990)
    expect(FakeSocket.all).toHaveLength(2)
    vi.advanceTimersByTime(20)
    expect(FakeSocket.all).toHaveLength(3)
    player.stop()
    vi.useRealTimers()
  })

  it('says why it shows pictures instead, and does not ask again', () => {
    const { player, reports } = begin()
    last().onmessage?.({ data: JSON.stringify({ type: 'refused', code: 'h265', fallback: '/api/v1/cameras/1/live.mjpg' }) })
    last().onclose?.({ code: 4415 })
    expect(reports.at(-1)).toMatchObject({ state: 'refused', reason: 'h265' })
    vi.advanceTimersByTime(60_000)
    expect(FakeSocket.all).toHaveLength(1)
    player.stop()
    vi.useRealTimers()
  })

  it('ends the pull while nobody looks, and begins anew at the live edge', () => {
    const { player, reports } = begin()
    player.sleep()
    expect(FakeSocket.all[0]!.closed).toBe(true)
    expect(reports.at(-1)?.state).toBe('asleep')
    player.wake()
    expect(FakeSocket.all).toHaveLength(2)
    player.stop()
    vi.useRealTimers()
  })

  it('gives up a socket that says nothing', () => {
    const { player } = begin()
    vi.advanceTimersByTime(30_000)
    expect(FakeSocket.all.length).toBeGreaterThan(1)
    expect(FakeSocket.all[0]!.closed).toBe(true)
    player.stop()
    vi.useRealTimers()
  })
})

it('the arrows lead over the edges of pages', () => {
  expect(step(15, 'ArrowRight', 4, 20)).toBe(16)
  expect(step(2, 'ArrowUp', 4, 20)).toBe(2)
  expect(step(14, 'ArrowDown', 4, 17)).toBe(16)
  expect(pageCount(17, 4)).toBe(2)
  expect(pageOf(16, 4)).toBe(1)
})
