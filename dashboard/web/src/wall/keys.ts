import { onScopeDispose } from 'vue'
import type { Key } from '@/i18n'

/** One key and what it does; the list is also the help page. */
export interface Shortcut {
  keys: string[]
  shown: string
  text: Key
  /** Given the key that was pressed, for one of several. */
  run: (key: string) => void
  /** The key means nothing now and is left to whoever else wants it. */
  idle?: () => boolean
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches('input, textarea, select, [contenteditable]')
}

/** Enter on a button that has the focus presses that button, not the proposal. */
function isPressing(event: KeyboardEvent): boolean {
  const target = event.target
  return event.key === 'Enter' && target instanceof HTMLElement && target.matches('button, a, summary')
}

/** Listens on the whole page; typing in a field is left alone, with Escape as the way out. */
export function useShortcuts(shortcuts: Shortcut[], escape: () => void): void {
  const byKey = new Map(shortcuts.flatMap((one) => one.keys.map((key) => [key, one] as const)))
  const listen = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return
    if (event.key === 'Escape') {
      if (event.target instanceof HTMLElement) event.target.blur()
      return escape()
    }
    if (isTyping(event.target) || isPressing(event)) return
    const shortcut = byKey.get(event.key.length === 1 ? event.key.toLowerCase() : event.key)
    if (!shortcut || shortcut.idle?.()) return
    event.preventDefault()
    shortcut.run(event.key)
  }
  window.addEventListener('keydown', listen)
  onScopeDispose(() => window.removeEventListener('keydown', listen))
}
