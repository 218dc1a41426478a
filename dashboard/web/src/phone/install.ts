import { shallowRef } from 'vue'

interface InstallPrompt extends Event {
  prompt: () => Promise<void>
}

/** Chromium offers installation by an event that must be kept until somebody asks; others have it in their menu. */
export const installPrompt = shallowRef<InstallPrompt | null>(null)

window.addEventListener('beforeinstallprompt', (event) => {
  event.preventDefault()
  installPrompt.value = event as InstallPrompt
})

export async function promptInstall(): Promise<void> {
  await installPrompt.value?.prompt()
  installPrompt.value = null
}
