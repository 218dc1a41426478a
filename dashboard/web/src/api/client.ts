import type { Seat } from './types'

/** RFC 9457: `code` is stable and translated here, `params` fill the sentence. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly params: Record<string, unknown> = {},
    readonly title = '',
  ) {
    super(title || code)
  }

  /** True when the same request may succeed later without anybody changing it. */
  get passing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500
  }
}

export interface RequestOptions {
  body?: unknown
  form?: FormData
  version?: number
  /** Makes a request that is sent again harmless; for what must happen once. */
  key?: string
  keepalive?: boolean
  timeoutS?: number
}

const BASE = '/api/v1'

async function readProblem(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as { code?: string; params?: Record<string, unknown>; title?: string }
    return new Problem(response.status, body.code ?? `http_${response.status}`, body.params ?? {}, body.title ?? '')
  } catch {
    return new Problem(response.status, `http_${response.status}`)
  }
}

/** One seat's door to the server. A wall and a phone can be open side by side with two log-ins. */
export class Client {
  constructor(
    readonly seat: Seat,
    private readonly send: typeof fetch = (...request) => fetch(...request),
  ) {}

  /** Raises Problem: `status` 0 is a network that did not answer. */
  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const headers: Record<string, string> = { 'X-Seat': this.seat, Accept: 'application/json' }
    if (options.body !== undefined) headers['Content-Type'] = 'application/json'
    if (options.version !== undefined) headers['If-Match'] = String(options.version)
    if (options.key) headers['Idempotency-Key'] = options.key
    let response: Response
    try {
      response = await this.send(BASE + path, {
        method,
        headers,
        credentials: 'same-origin',
        keepalive: options.keepalive ?? false,
        signal: AbortSignal.timeout((options.timeoutS ?? 20) * 1000),
        body: options.form ?? (options.body === undefined ? null : JSON.stringify(options.body)),
      })
    } catch {
      throw new Problem(0, 'no_network')
    }
    if (!response.ok) throw await readProblem(response)
    if (response.status === 204) return undefined as T
    return (await response.json()) as T
  }

  get<T>(path: string): Promise<T> {
    return this.request<T>('GET', path)
  }

  post<T>(path: string, body: unknown = {}, options: RequestOptions = {}): Promise<T> {
    return this.request<T>('POST', path, { ...options, body })
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.request<T>('PATCH', path, { body })
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.request<T>('PUT', path, { body })
  }

  delete<T>(path: string): Promise<T> {
    return this.request<T>('DELETE', path)
  }

  /** Address of a picture for an <img>, which cannot send a header. */
  pictureUrl(path: string, query: Record<string, string | number> = {}): string {
    const search = new URLSearchParams({ seat: this.seat })
    for (const [name, value] of Object.entries(query)) search.set(name, String(value))
    return `${BASE}${path}?${search.toString()}`
  }

  evidenceUrl(id: string, width?: number): string {
    return this.pictureUrl(`/evidence/${id}`, width ? { w: width } : {})
  }

  socketUrl(path: string, query: Record<string, string> = {}): string {
    const address = new URL(BASE + path, location.href)
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:'
    address.searchParams.set('seat', this.seat)
    for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value)
    return address.href
  }

  liveUrl(since: number | null): string {
    return this.socketUrl('/live', since === null ? {} : { since: String(since) })
  }
}

/** A random id; `crypto.randomUUID` is missing on plain http beyond localhost, where a phone may well be. */
export function newId(): string {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID()
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
