import type { LiveMessage } from './types'

/** How the connection stands, for people: only `live` may look alive. */
export type Link = 'connecting' | 'live' | 'silent' | 'down' | 'refused'

export interface LiveOptions {
  url: (since: number | null) => string
  receive: (messages: LiveMessage[]) => void
  linkChanged: (link: Link, sinceMs: number) => void
  /** Milliseconds of a clock; an argument so that a test can hold it. */
  now?: () => number
  random?: () => number
  open?: (url: string) => WebSocket
  /** Runs `work` before the next picture: many messages become one drawing. */
  nextFrame?: (work: () => void) => void
}

const SILENT_AFTER_MS = 12_000
const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000
/** The session is gone: a retry cannot help. */
const REFUSED_CODES = new Set([4401, 4403])
const NOTHING: LiveMessage[] = []

/** A hidden page gets no animation frames, so it falls back to a timer. */
function beforeNextPicture(work: () => void): void {
  if (document.hidden) setTimeout(work, 250)
  else requestAnimationFrame(work)
}

/**
 * One WebSocket: snapshot, numbered deltas, resume by number, exponential reconnect with jitter.
 *
 * Messages are handed over at most once per animation frame.
 */
export class LiveSocket {
  private socket: WebSocket | null = null
  private seq: number | null = null
  private heardAt = 0
  private failures = 0
  private retry: ReturnType<typeof setTimeout> | undefined
  private watch: ReturnType<typeof setInterval> | undefined
  private waiting: LiveMessage[] = NOTHING
  private link: Link = 'connecting'
  private stopped = false

  constructor(private readonly options: LiveOptions) {}

  private now(): number {
    return this.options.now?.() ?? Date.now()
  }

  start(): void {
    this.heardAt = this.now()
    this.connect()
    this.watch = setInterval(() => this.look(), 1000)
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.retry)
    clearInterval(this.watch)
    this.socket?.close()
  }

  /** Tries at once: the browser says that the network is back, or a person asks. */
  retryNow(): void {
    if (this.link === 'live' || this.stopped) return
    this.failures = 0
    clearTimeout(this.retry)
    this.drop()
    this.connect()
  }

  send(message: unknown): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message))
  }

  private setLink(link: Link): void {
    if (link === this.link) return
    this.link = link
    this.options.linkChanged(link, this.heardAt)
  }

  private connect(): void {
    const open = this.options.open ?? ((url) => new WebSocket(url))
    const socket = open(this.options.url(this.seq))
    this.socket = socket
    socket.onmessage = (event) => {
      if (this.socket === socket) this.take(String(event.data))
    }
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event.code)
    }
  }

  private drop(): void {
    const old = this.socket
    this.socket = null
    old?.close()
  }

  private closed(code: number): void {
    this.socket = null
    if (this.stopped) return
    if (REFUSED_CODES.has(code)) return this.setLink('refused')
    this.setLink('down')
    this.failures += 1
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.failures - 1))
    const wait = longest * (0.5 + 0.5 * (this.options.random?.() ?? Math.random()))
    this.retry = setTimeout(() => this.connect(), wait)
  }

  private look(): void {
    if (this.link !== 'live' || this.now() - this.heardAt < SILENT_AFTER_MS) return
    // The socket may be half open and never say so: it is given up and a new one begun.
    this.setLink('silent')
    this.drop()
    this.connect()
  }

  private take(text: string): void {
    let message: LiveMessage
    try {
      message = JSON.parse(text) as LiveMessage
    } catch {
      return
    }
    this.heardAt = this.now()
    this.failures = 0
    this.setLink('live')
    if (message.type === 'snapshot') this.seq = message.seq
    // A ping says up to which number all is known: nothing in between was for this page.
    if (message.type === 'ping' && this.seq !== null) this.seq = Math.max(this.seq, message.seq ?? 0)
    if (message.type === 'delta') {
      if (this.seq !== null && message.seq <= this.seq) return
      this.seq = message.seq
    }
    if (this.waiting.length === 0) {
      this.waiting = []
      const nextFrame = this.options.nextFrame ?? beforeNextPicture
      nextFrame(() => this.flush())
    }
    this.waiting.push(message)
  }

  private flush(): void {
    const messages = this.waiting
    this.waiting = NOTHING
    this.options.receive(messages)
  }
}
