import type { DeadLetter } from '@/api/things'

/** A payload for reading: JSON laid out, text as it is, bytes as a dump of sixteen in a row. */
export function payloadText(letter: Pick<DeadLetter, 'payload_text' | 'payload_base64'>): string {
  if (letter.payload_text !== null) {
    try {
      return JSON.stringify(JSON.parse(letter.payload_text), null, 2)
    } catch {
      return letter.payload_text
    }
  }
  const bytes = Uint8Array.from(atob(letter.payload_base64), (one) => one.charCodeAt(0))
  const rows: string[] = []
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.slice(at, at + 16)]
    const hex = row.map((one) => one.toString(16).padStart(2, '0')).join(' ')
    const text = row.map((one) => (one >= 32 && one < 127 ? String.fromCharCode(one) : '.')).join('')
    rows.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${text}`)
  }
  return rows.join('\n')
}
