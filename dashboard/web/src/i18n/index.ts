import { ref } from 'vue'
import type { zhEngineer } from '@/engineer/words/zh'
import { en } from './en'
import { zh } from './zh'

export const LANGUAGES = ['zh-CN', 'en'] as const
export type Language = (typeof LANGUAGES)[number]
/** The engineers' words are loaded by their page alone (`addTexts`); only their names are known here. */
export type Key = keyof typeof zh | keyof typeof zhEngineer

const STORED_AS = 'gridwarden.language'
const TEXTS: Record<Language, Record<string, string>> = { 'zh-CN': { ...zh }, en: { ...en } }

/** Words of a page that the others need not load. */
export function addTexts(more: Record<Language, Record<string, string>>): void {
  for (const one of LANGUAGES) Object.assign(TEXTS[one], more[one])
}

function readStored(): Language | null {
  try {
    const stored = localStorage.getItem(STORED_AS)
    return LANGUAGES.find((language) => language === stored) ?? null
  } catch {
    return null
  }
}

/** Chosen on this machine first, then what the person's record says, then Chinese. */
export const language = ref<Language>(readStored() ?? 'zh-CN')

export function applyLanguage(to: Language): void {
  language.value = to
  document.documentElement.lang = to
}

export function chooseLanguage(to: Language): void {
  applyLanguage(to)
  try {
    localStorage.setItem(STORED_AS, to)
  } catch {
    // Private windows may refuse storage; the choice then lasts as long as the page.
  }
}

export function followPerson(wanted: string): void {
  const known = LANGUAGES.find((one) => one === wanted)
  if (known && !readStored()) applyLanguage(known)
}

export function fill(text: string, params: Record<string, unknown>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in params ? String(params[name]) : whole))
}

export function t(key: Key, params: Record<string, unknown> = {}): string {
  return fill(TEXTS[language.value][key] ?? key, params)
}

/** Text of a stable code of a family such as `state`; a code that is not known yet is shown as plain words. */
export function tx(family: string, code: string | null | undefined, params: Record<string, unknown> = {}): string {
  if (!code) return ''
  const text = TEXTS[language.value][`${family}.${code}`]
  return text === undefined ? code.replaceAll('_', ' ') : fill(text, params)
}

export function hasText(family: string, code: string): boolean {
  return `${family}.${code}` in TEXTS[language.value]
}

/** Every code of a family that has a text. */
export function codesOf(family: string): string[] {
  const start = `${family}.`
  return Object.keys(TEXTS[language.value]).filter((key) => key.startsWith(start)).map((key) => key.slice(start.length))
}

export function pick(names: { zh: string; en: string }): string {
  return language.value === 'en' ? names.en || names.zh : names.zh || names.en
}
