/** One finding is judged with one key. What was said waits a few seconds, so that it can be taken back. */
import { ref, shallowReactive } from 'vue'
import { newId, type Client } from '@/api/client'
import { t, tx } from '@/i18n'
import { explain } from '@/ui/loading'
import { showToast } from '@/ui/toasts'
import { WRONG, type Judgement } from './finding'

const UNDO_MS = 5000

export interface Judged {
  reportId: string
}

export class Judging {
  /** The finding that the keys speak of. */
  readonly current = ref<Judged | null>(null)
  /** "Wrong" was said; the reason is waited for. */
  readonly asking = ref(false)
  /** What was said here, before and after it was sent; it wins over what was read. */
  readonly said = shallowReactive(new Map<string, Judgement | null>())
  private waiting: { reportId: string; judgement: Judgement; before: Judgement | null; timer: ReturnType<typeof setTimeout> } | null = null

  constructor(
    private readonly client: Client,
    private readonly done: (reportId: string) => void = () => undefined,
  ) {}

  point(at: Judged | null): void {
    if (at?.reportId !== this.current.value?.reportId) this.asking.value = false
    this.current.value = at
  }

  right(): void {
    this.say({ right: true, why: 'as_reported' })
  }

  /** Asks for the reason; said twice it goes without one. */
  wrong(): void {
    if (!this.current.value) return
    if (this.asking.value) this.say({ right: false, why: 'other' })
    else this.asking.value = true
  }

  /** `n`: 1 to 6. */
  why(n: number): void {
    const code = WRONG[n - 1]
    if (this.asking.value && code) this.say({ right: false, why: code })
  }

  /** True when there was a question to close. */
  escape(): boolean {
    const was = this.asking.value
    this.asking.value = false
    return was
  }

  undo(): void {
    const taken = this.waiting
    if (!taken) return
    clearTimeout(taken.timer)
    this.waiting = null
    this.said.set(taken.reportId, taken.before)
    showToast(t('judge.undone'))
  }

  /** Reads what was judged before, by anybody; what was said here wins. */
  async ask(reportId: string): Promise<void> {
    try {
      const answer = await this.client.get<{ judgement: Judgement | null }>(`/findings/${reportId}`)
      if (!this.said.has(reportId)) this.said.set(reportId, answer.judgement)
    } catch {
      // Not known: the bar then shows none, and judging says what is the matter.
    }
  }

  private say(judgement: Judgement): void {
    const at = this.current.value
    if (!at) return
    this.asking.value = false
    void this.flush()
    const before = this.said.get(at.reportId) ?? null
    this.said.set(at.reportId, judgement)
    const timer = setTimeout(() => void this.flush(), UNDO_MS)
    this.waiting = { reportId: at.reportId, judgement, before, timer }
    const words = judgement.right ? t('judge.said_right') : t('judge.said_wrong', { why: tx('judge_why', judgement.why) })
    showToast(words, 'plain', UNDO_MS, () => {
      if (this.waiting?.reportId === at.reportId) this.undo()
    })
    this.done(at.reportId)
  }

  /** Sends what waits: before the next one, and when the page is left. */
  async flush(leaving = false): Promise<void> {
    const ready = this.waiting
    this.waiting = null
    if (!ready) return
    clearTimeout(ready.timer)
    const body = { right: ready.judgement.right, why: ready.judgement.why, note: ready.judgement.note ?? '' }
    try {
      const path = `/findings/${ready.reportId}/judgement`
      const answer = await this.client.request<Judgement>('PUT', path, { body, keepalive: leaving, key: newId() })
      this.said.set(ready.reportId, answer ?? ready.judgement)
    } catch (problem) {
      this.said.set(ready.reportId, ready.before)
      showToast(explain(problem), 'bad', 8000)
    }
  }
}
