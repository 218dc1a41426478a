/** Pictures instead of video: parts of an endless answer, or stills one after the other; each with its age. */

export interface PictureHeld {
  url: string
  /** When it was taken in by the server, by this machine's clock. */
  atMs: number
}

/** Splits `multipart/x-mixed-replace` with Content-Length into its parts. */
export class PartReader {
  private held = new Uint8Array(0)

  push(chunk: Uint8Array): { headers: Map<string, string>; body: Uint8Array<ArrayBuffer> }[] {
    const joined = new Uint8Array(this.held.length + chunk.length)
    joined.set(this.held)
    joined.set(chunk, this.held.length)
    this.held = joined
    const parts: { headers: Map<string, string>; body: Uint8Array<ArrayBuffer> }[] = []
    for (;;) {
      const end = this.findHeadEnd()
      if (end < 0) return parts
      const headers = readHeaders(new TextDecoder().decode(this.held.subarray(0, end)))
      const length = Number(headers.get('content-length') ?? NaN)
      if (!Number.isFinite(length)) throw new Error('a part without its length')
      if (this.held.length < end + 4 + length) return parts
      parts.push({ headers, body: this.held.slice(end + 4, end + 4 + length) })
      this.held = this.held.slice(end + 4 + length)
    }
  }

  private findHeadEnd(): number {
    const { held } = this
    for (let at = 0; at + 3 < held.length; at += 1) {
      if (held[at] === 13 && held[at + 1] === 10 && held[at + 2] === 13 && held[at + 3] === 10) {
        if (at === 0) continue
        return at
      }
    }
    return -1
  }
}

function readHeaders(text: string): Map<string, string> {
  const headers = new Map<string, string>()
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':')
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim())
  }
  return headers
}

/** The server's own two clocks say how old a picture was when it left; this machine's clock may be wrong. */
function takenMs(receivedAt: string | null | undefined, sentAt: string | null, nowMs: number): number {
  const before = receivedAt && sentAt ? Date.parse(sentAt) - Date.parse(receivedAt) : 0
  return before > 1500 ? nowMs - before : nowMs
}

/** A browser opens six connections to one host: stills take turns, so that the rest of the page goes on. */
const MOST_AT_ONCE = 3
let running = 0
const waiting: (() => void)[] = []

async function takeTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= MOST_AT_ONCE) await new Promise<void>((go) => waiting.push(go))
  running += 1
  try {
    return await work()
  } finally {
    running -= 1
    waiting.shift()?.()
  }
}

export interface StillOptions {
  url: string
  seat: string
  show: (held: PictureHeld) => void
  failed: (code: string) => void
}

/** Follows pictures until it is stopped; a failure is told and tried again. */
export class StillFeed {
  private readonly stop_ = new AbortController()
  private shown: string | null = null

  constructor(private readonly options: StillOptions) {}

  stop(): void {
    this.stop_.abort()
    if (this.shown) URL.revokeObjectURL(this.shown)
  }

  private put(bytes: BlobPart, atMs: number): void {
    if (this.stop_.signal.aborted) return
    const url = URL.createObjectURL(new Blob([bytes], { type: 'image/jpeg' }))
    const old = this.shown
    this.shown = url
    this.options.show({ url, atMs })
    if (old) setTimeout(() => URL.revokeObjectURL(old), 1000)
  }

  private async fetch(): Promise<Response> {
    const answer = await fetch(this.options.url, {
      signal: this.stop_.signal,
      headers: { 'X-Seat': this.options.seat },
      credentials: 'same-origin',
      cache: 'no-store',
    })
    if (answer.ok) return answer
    const body = (await answer.json().catch(() => ({}))) as { code?: string }
    throw new Error(body.code ?? `http_${answer.status}`)
  }

  private async wait(ms: number): Promise<void> {
    await new Promise((go) => setTimeout(go, ms))
  }

  /** One still after the other, `everyMs` apart. */
  async poll(everyMs: number): Promise<void> {
    while (!this.stop_.signal.aborted) {
      let pause = everyMs
      try {
        await takeTurn(async () => {
          const answer = await this.fetch()
          const bytes = await answer.arrayBuffer()
          this.put(bytes, takenMs(answer.headers.get('x-received-at'), answer.headers.get('date'), Date.now()))
        })
      } catch (problem) {
        if (this.stop_.signal.aborted) return
        this.options.failed(problem instanceof Error ? problem.message : 'no_network')
        pause = Math.max(everyMs, 5000)
      }
      await this.wait(document.hidden ? Math.max(pause, 5000) : pause)
    }
  }

  /** An endless answer of pictures. */
  async follow(): Promise<void> {
    while (!this.stop_.signal.aborted) {
      try {
        const answer = await this.fetch()
        const reader = answer.body!.getReader()
        const parts = new PartReader()
        for (;;) {
          const { done, value } = await reader.read()
          if (done) break
          const part = parts.push(value).pop()
          if (part) this.put(part.body, Date.now())
        }
        this.options.failed('camera_unreachable')
      } catch (problem) {
        if (this.stop_.signal.aborted) return
        this.options.failed(problem instanceof Error ? problem.message : 'no_network')
      }
      await this.wait(4000)
    }
  }
}
