import { onScopeDispose, ref, type Ref } from 'vue'
import { language, t } from '@/i18n'

let zone = 'Asia/Shanghai'

/** The city's time zone: an operator's laptop may be set to another. */
export function setTimeZone(name: string): void {
  zone = name
  formats.clear()
}

const formats = new Map<string, Intl.DateTimeFormat>()

function format(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = language.value + JSON.stringify(options)
  let known = formats.get(key)
  if (!known) {
    const locale = language.value === 'en' ? 'en-GB' : 'zh-CN'
    known = new Intl.DateTimeFormat(locale, { ...options, timeZone: zone, hourCycle: 'h23' })
    formats.set(key, known)
  }
  return known
}

export function clockTime(atMs: number): string {
  return format({ hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(atMs)
}

export function zoneName(atMs: number): string {
  const parts = format({ timeZoneName: 'shortOffset' }).formatToParts(atMs)
  return (parts.find((part) => part.type === 'timeZoneName')?.value ?? '').replace('GMT', 'UTC')
}

function dayOf(atMs: number): string {
  return format({ year: 'numeric', month: '2-digit', day: '2-digit' }).format(atMs)
}

export function longDate(atMs: number): string {
  return format({ month: 'short', day: 'numeric', weekday: 'short' }).format(atMs)
}

/** `08:41`, with the date in front when it is another day. */
export function shortTime(at: string | null, nowMs: number): string {
  if (!at) return '—'
  const atMs = Date.parse(at)
  const time = format({ hour: '2-digit', minute: '2-digit' }).format(atMs)
  if (dayOf(atMs) === dayOf(nowMs)) return time
  return `${format({ month: '2-digit', day: '2-digit' }).format(atMs)} ${time}`
}

export function exactTime(at: string | null, nowMs: number): string {
  if (!at) return '—'
  const atMs = Date.parse(at)
  const time = clockTime(atMs)
  if (dayOf(atMs) === dayOf(nowMs)) return time
  return `${format({ month: '2-digit', day: '2-digit' }).format(atMs)} ${time}`
}

/** A length of time in the two units that matter. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return t('span.s', { s: whole })
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return t('span.min', { min: minutes })
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return t('span.h_min', { h: hours, min: minutes % 60 })
  return t('span.d_h', { d: Math.floor(hours / 24), h: hours % 24 })
}

/** `12:07` below an hour: the seconds are seen to run. */
export function countdown(seconds: number): string {
  const whole = Math.floor(Math.abs(seconds))
  if (whole >= 3600) return span(whole)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

export function timeLeft(seconds: number | null): string {
  if (seconds === null) return ''
  return t(seconds >= 0 ? 'time.left' : 'time.over', { span: countdown(seconds) })
}

export function age(at: string | null, nowMs: number): string {
  if (!at) return t('age.never')
  return t('age.ago', { span: span((nowMs - Date.parse(at)) / 1000) })
}

export function distance(metres: number | null | undefined): string {
  if (metres === null || metres === undefined) return ''
  return metres < 1000 ? `${Math.round(metres / 10) * 10} m` : `${(metres / 1000).toFixed(1)} km`
}

/** The server's clock, every `everyMs`; `offsetMs` says how far this machine's is behind. */
export function useTicker(everyMs: number, offsetMs: () => number): Ref<number> {
  const now = ref(Date.now() + offsetMs())
  const timer = setInterval(() => (now.value = Date.now() + offsetMs()), everyMs)
  onScopeDispose(() => clearInterval(timer))
  return now
}
