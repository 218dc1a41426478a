/** Times in forms: an <input type="datetime-local"> speaks this machine's own time, without a zone. */

export function localInput(atMs: number): string {
  const local = new Date(atMs - new Date(atMs).getTimezoneOffset() * 60_000)
  return local.toISOString().slice(0, 16)
}

/** The instant of a form's value, in UTC; null when it is none. */
export function readLocal(text: string): string | null {
  const atMs = Date.parse(text)
  return Number.isNaN(atMs) ? null : new Date(atMs).toISOString()
}
