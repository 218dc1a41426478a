import { ref, watchEffect } from 'vue'

/** A choice kept on this machine. Storage may be refused; the choice then lasts as long as the page. */
export function read(name: string): string | null {
  try {
    return localStorage.getItem(`gridwarden.${name}`)
  } catch {
    return null
  }
}

export function write(name: string, value: string): void {
  try {
    localStorage.setItem(`gridwarden.${name}`, value)
  } catch {
    // See above.
  }
}

export type Theme = 'dark' | 'light'

export const theme = ref<Theme>(read('theme') === 'light' ? 'light' : 'dark')

watchEffect(() => {
  document.documentElement.dataset.theme = theme.value
})

export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark'
  write('theme', theme.value)
}
