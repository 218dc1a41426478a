/** The live console's memory: what came, bounded; pausing holds the picture still and loses nothing that fits. */
import { computed, ref, shallowRef } from 'vue'
import type { ConsoleMessage } from '@/api/things'

export interface Line extends ConsoleMessage {
  number: number
}

const KEPT = 500

export function createConsole(kept = KEPT) {
  const lines = shallowRef<Line[]>([])
  const held = shallowRef<Line[]>([])
  const paused = ref(false)
  const onlyRefused = ref(false)
  const dropped = ref(0)
  let next = 1

  function keep(list: Line[], line: Line): Line[] {
    if (list.length < kept) return [line, ...list]
    dropped.value += 1
    return [line, ...list.slice(0, kept - 1)]
  }

  return {
    paused,
    onlyRefused,
    dropped: computed(() => dropped.value),
    waiting: computed(() => held.value.length),
    /** Newest first. */
    lines: computed(() => (onlyRefused.value ? lines.value.filter((line) => line.refused) : lines.value)),
    take(message: ConsoleMessage): void {
      const line = { ...message, number: next++ }
      if (paused.value) held.value = keep(held.value, line)
      else lines.value = keep(lines.value, line)
    },
    pause(on: boolean): void {
      paused.value = on
      if (on) return
      lines.value = [...held.value, ...lines.value].slice(0, kept)
      held.value = []
    },
    clear(): void {
      lines.value = []
      held.value = []
      dropped.value = 0
    },
  }
}

/** JSON is laid out; text stays as it came; bytes come as hexadecimal digits in groups. */
export function rawText(raw: unknown): string {
  if (typeof raw !== 'string') return JSON.stringify(raw, null, 2) ?? ''
  try {
    return JSON.stringify(JSON.parse(raw), null, 2)
  } catch {
    return /^([0-9a-fA-F]{2}){8,}$/.test(raw) ? raw.replace(/(..)/g, '$1 ').trim() : raw
  }
}
