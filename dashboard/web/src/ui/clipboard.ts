import { t } from '@/i18n'
import { showToast } from './toasts'

/** Copies a text and says so. On plain http beyond this machine browsers have no clipboard: an old way is tried then. */
export async function copyText(text: string): Promise<boolean> {
  const done = await writeClipboard(text)
  showToast(t(done ? 'copy.done' : 'copy.failed'), done ? 'good' : 'bad')
  return done
}

async function writeClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const box = document.createElement('textarea')
    box.value = text
    document.body.append(box)
    box.select()
    const done = document.execCommand('copy')
    box.remove()
    return done
  }
}
