import { ref } from 'vue'

export interface Toast {
  id: number
  text: string
  tone: 'plain' | 'bad' | 'good'
  undo?: () => void
  /** How long it stays, and how long an undo is possible. */
  lastsMs: number
}

export const toasts = ref<Toast[]>([])
let next = 1

export function showToast(text: string, tone: Toast['tone'] = 'plain', lastsMs = 5000, undo?: () => void): number {
  const id = next++
  toasts.value = [...toasts.value.slice(-3), undo ? { id, text, tone, lastsMs, undo } : { id, text, tone, lastsMs }]
  setTimeout(() => dropToast(id), lastsMs)
  return id
}

export function dropToast(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id)
}
