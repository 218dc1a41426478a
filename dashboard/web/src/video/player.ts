/**
 * A camera's live picture: H.264 fragments from a socket into a <video>, with what the detector saw beside it.
 *
 * Reconnects with backoff, sleeps when the page is hidden, keeps the buffer short, and always knows how old its picture is.
 */
import { Arrivals, planBuffer, type Span } from './buffer'
import { readFragment, readTimescale } from './fragment'
import { LookLine, type KeptLook, type Look } from './looks'

/** `refused`: this browser or server cannot play it, so pictures are shown instead; `gone`: no such camera for this person. */
export type PlayerState = 'connecting' | 'live' | 'away' | 'refused' | 'gone' | 'asleep'

export interface PlayerReport {
  state: PlayerState
  /** Why it is not live: a code of the server. */
  reason: string | null
  /** Why exactly the camera cannot be reached, when the server knows. */
  fault: string | null
  fallback: string | null
  stream: string | null
}

type Init = { type: 'init'; mime: string; width: number; height: number; stream?: string; began_at?: string | null }
type Message =
  | Init
  | ({ type: 'boxes' } & Look)
  | { type: 'refused'; code: string; fallback?: string | null; fault?: string | null }
  | { type: 'ping' | 'cut' }

export interface PlayerOptions {
  video: HTMLVideoElement
  url: () => string
  changed: (report: PlayerReport) => void
  signedOut?: () => void
  /** Called once for each first picture after a connection, with the time it took. */
  firstPicture?: (ms: number) => void
  open?: (url: string) => WebSocket
  now?: () => number
  random?: () => number
}

const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000
const SILENT_AFTER_MS = 8000
/** The server may itself wait for a camera that does not answer. */
const OPENING_AFTER_MS = 25_000
const STALLED_AFTER_MS = 6000
const MOST_WAITING = 400
const KEEP_KEYS = 120
const REFUSED = 4415
const GONE = new Set([4403, 4404])

interface SourceMaker {
  new (): MediaSource
  isTypeSupported(type: string): boolean
}

/** Safari on iPhones has the managed kind only. */
function sourceMaker(): SourceMaker | null {
  const known = globalThis as unknown as { MediaSource?: SourceMaker; ManagedMediaSource?: SourceMaker }
  return known.MediaSource ?? known.ManagedMediaSource ?? null
}

export function canPlay(mime: string): boolean {
  return sourceMaker()?.isTypeSupported(mime) ?? false
}

export class LivePlayer {
  readonly looks = new LookLine()
  private readonly arrivals = new Arrivals()
  private socket: WebSocket | null = null
  private source: MediaSource | null = null
  private buffer: SourceBuffer | null = null
  private address: string | null = null
  private timescale: number | null = null
  private beganMs: number | null = null
  private keys: number[] = []
  private waiting: ArrayBuffer[] = []
  private failures = 0
  private askedMs = 0
  private heardMs = 0
  private movedMs = 0
  private lastS = -1
  private told = false
  /** What the server said before it closed. */
  private said: string | null = null
  private retry: ReturnType<typeof setTimeout> | undefined
  private readonly ticker: ReturnType<typeof setInterval>
  private stopped = false
  private report: PlayerReport = { state: 'connecting', reason: null, fault: null, fallback: null, stream: null }

  constructor(private readonly options: PlayerOptions) {
    this.ticker = setInterval(() => this.tick(), 500)
    options.video.addEventListener('error', this.broken)
    options.video.addEventListener('loadeddata', this.shown)
    this.connect()
  }

  private now(): number {
    return this.options.now?.() ?? Date.now()
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.retry)
    clearInterval(this.ticker)
    this.options.video.removeEventListener('error', this.broken)
    this.options.video.removeEventListener('loadeddata', this.shown)
    this.hangUp()
  }

  /** Ends the pull while nobody looks; `wake` begins anew at the live edge. */
  sleep(): void {
    if (this.stopped || this.report.state === 'asleep') return
    clearTimeout(this.retry)
    this.hangUp()
    this.say({ state: 'asleep', reason: null })
  }

  wake(): void {
    if (this.report.state === 'asleep') this.again()
    else this.keepUp()
  }

  /** Tries at once, whatever was said before. */
  again(): void {
    if (this.stopped) return
    this.failures = 0
    clearTimeout(this.retry)
    this.hangUp()
    this.connect()
  }

  /** When the shown frame came, by this machine's clock; null when nothing is shown. */
  shownAtMs(): number | null {
    const { video } = this.options
    if (!this.address || video.readyState < 2) return null
    const arrived = this.arrivals.arrivedMs(video.currentTime)
    return arrived === null ? null : Math.min(arrived, this.now())
  }

  /** What was seen in the shown frame. */
  look(): KeptLook | null {
    const { video } = this.options
    return this.looks.pick(this.buffer && video.readyState >= 2 ? video.currentTime : null, this.now())
  }

  private say(change: Partial<PlayerReport>): void {
    this.report = { ...this.report, ...change }
    this.options.changed(this.report)
  }

  private connect(): void {
    this.askedMs = this.heardMs = this.now()
    this.told = false
    this.said = null
    if (this.report.state !== 'away') this.say({ state: 'connecting' })
    const open = this.options.open ?? ((url) => new WebSocket(url))
    const socket = open(this.options.url())
    socket.binaryType = 'arraybuffer'
    this.socket = socket
    socket.onmessage = (event) => {
      if (this.socket === socket) this.take(event.data as string | ArrayBuffer)
    }
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event.code)
    }
  }

  private hangUp(): void {
    const old = this.socket
    this.socket = null
    old?.close()
    this.dropSource()
  }

  private dropSource(): void {
    this.buffer = null
    this.source = null
    this.waiting = []
    this.keys = []
    this.timescale = null
    this.beganMs = null
    this.arrivals.clear()
    this.looks.clear()
    if (this.address) {
      URL.revokeObjectURL(this.address)
      this.address = null
      this.options.video.removeAttribute('src')
      this.options.video.load()
    }
  }

  private closed(code: number): void {
    this.socket = null
    if (this.stopped) return
    if (code === 4401) return this.options.signedOut?.()
    if (code === REFUSED) {
      this.dropSource()
      return this.say({ state: 'refused', reason: this.said ?? 'cannot_play' })
    }
    if (GONE.has(code)) {
      this.dropSource()
      return this.say({ state: 'gone', reason: this.said ?? 'unknown_camera' })
    }
    this.failures += 1
    // The last picture stays, and its age shows.
    this.buffer = null
    this.source = null
    this.waiting = []
    this.say({ state: 'away', reason: this.said ?? (code === 4503 ? 'camera_unreachable' : 'no_network') })
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.failures - 1))
    const wait = longest * (0.5 + 0.5 * (this.options.random?.() ?? Math.random()))
    this.retry = setTimeout(() => this.connect(), wait)
  }

  private take(data: string | ArrayBuffer): void {
    this.heardMs = this.now()
    if (typeof data !== 'string') return this.append(data)
    let message: Message
    try {
      message = JSON.parse(data) as Message
    } catch {
      return
    }
    if (message.type === 'init') this.begin(message)
    else if (message.type === 'boxes') this.note(message)
    else if (message.type === 'refused') {
      this.said = message.code
      this.say({ reason: message.code, fault: message.fault ?? null, fallback: message.fallback ?? null })
    }
  }

  private begin(init: Init): void {
    this.dropSource()
    this.say({ reason: null, fault: null, fallback: null, stream: init.stream ?? null })
    const maker = sourceMaker()
    if (!maker || !maker.isTypeSupported(init.mime)) {
      const socket = this.socket
      this.socket = null
      socket?.close()
      return this.say({ state: 'refused', reason: 'browser_cannot_play' })
    }
    const source = new maker()
    this.source = source
    this.beganMs = init.began_at ? Date.parse(init.began_at) : null
    const { video } = this.options
    video.muted = true
    if (!('MediaSource' in globalThis)) (video as { disableRemotePlayback?: boolean }).disableRemotePlayback = true
    source.addEventListener('sourceopen', () => {
      if (this.source !== source || this.buffer) return
      try {
        this.buffer = source.addSourceBuffer(init.mime)
      } catch {
        return this.broken()
      }
      this.buffer.addEventListener('updateend', () => this.pump())
      this.pump()
    })
    this.address = URL.createObjectURL(source)
    video.src = this.address
    this.movedMs = this.now()
  }

  private append(bytes: ArrayBuffer): void {
    if (!this.source) return
    if (this.timescale === null) this.timescale = readTimescale(bytes)
    const head = this.timescale === null ? null : readFragment(bytes)
    if (head && this.timescale) {
      const mediaS = head.ticks / this.timescale
      this.arrivals.add(mediaS, this.now())
      if (head.isKey) this.keys.push(mediaS)
      if (this.keys.length > KEEP_KEYS) this.keys.splice(0, this.keys.length - KEEP_KEYS)
    }
    this.waiting.push(bytes)
    // A page that cannot take so much does not queue: it begins anew at the newest key frame.
    if (this.waiting.length > MOST_WAITING) return this.again()
    this.pump()
  }

  private spans(): Span[] {
    const ranges = this.buffer?.buffered
    return ranges ? Array.from({ length: ranges.length }, (_, index) => ({ start: ranges.start(index), end: ranges.end(index) })) : []
  }

  /** Feeds the buffer, follows the edge, cuts what is over. One change at a time: the buffer allows no more. */
  private pump(): void {
    const { buffer, source } = this
    if (!buffer || !source || source.readyState !== 'open' || buffer.updating) return
    try {
      const plan = this.keepUp()
      if (plan !== null) buffer.remove(0, plan)
      else if (this.waiting.length) buffer.appendBuffer(this.joinWaiting())
    } catch (problem) {
      if (problem instanceof DOMException && problem.name === 'QuotaExceededError') return this.again()
      this.broken()
    }
  }

  private joinWaiting(): ArrayBuffer {
    const parts = this.waiting
    this.waiting = []
    if (parts.length === 1) return parts[0]!
    const joined = new Uint8Array(parts.reduce((sum, one) => sum + one.byteLength, 0))
    let at = 0
    for (const part of parts) {
      joined.set(new Uint8Array(part), at)
      at += part.byteLength
    }
    return joined.buffer
  }

  /** Near the edge; answers what may be removed. */
  private keepUp(): number | null {
    const { video } = this.options
    const spans = this.spans()
    if (!spans.length) return null
    const plan = planBuffer(spans, video.currentTime, this.keys)
    if (plan.seekTo !== null) video.currentTime = plan.seekTo
    if (video.playbackRate !== plan.rate) video.playbackRate = plan.rate
    if (video.paused) video.play().catch(() => undefined)
    return plan.removeBefore
  }

  private readonly broken = (): void => {
    if (this.stopped || !this.address) return
    this.hangUp()
    this.closed(1006)
  }

  private note({ type: _type, ...look }: { type: 'boxes' } & Look): void {
    const nowMs = this.now()
    const fromClock = this.beganMs === null ? null : (Date.parse(look.at) - this.beganMs) / 1000
    const mediaS = look.media_s ?? fromClock ?? this.arrivals.mediaAt(nowMs - (look.behind_s ?? 0) * 1000)
    this.looks.add({ look, mediaS, atMs: nowMs - Math.max(0, look.behind_s ?? 0) * 1000 })
  }

  private readonly shown = (): void => {
    if (!this.buffer) return
    this.failures = 0
    if (this.report.state !== 'live') this.say({ state: 'live', reason: null })
    if (this.told) return
    this.told = true
    this.options.firstPicture?.(this.now() - this.askedMs)
  }

  private tick(): void {
    if (this.stopped || !this.socket) return
    const nowMs = this.now()
    const { video } = this.options
    if (this.buffer && video.readyState >= 2 && video.currentTime !== this.lastS) {
      this.lastS = video.currentTime
      this.movedMs = nowMs
      this.shown()
    }
    // A half-open socket never says that it is dead, and a decoder may hang: both are begun anew.
    const silent = nowMs - this.heardMs > (this.source ? SILENT_AFTER_MS : OPENING_AFTER_MS)
    const stalled = this.buffer !== null && nowMs - this.movedMs > STALLED_AFTER_MS && !document.hidden
    if (silent || stalled) {
      this.hangUp()
      this.closed(1006)
    } else {
      this.pump()
    }
  }
}
