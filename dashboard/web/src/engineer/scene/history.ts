/** What was changed, step by step, so that it can be taken back and done again. */
export class History<T> {
  private past: T[] = []
  private future: T[] = []
  private stroke = ''

  constructor(
    public now: T,
    private readonly longest = 200,
  ) {}

  get canUndo(): boolean {
    return this.past.length > 0
  }

  get canRedo(): boolean {
    return this.future.length > 0
  }

  /** Changes with the same non-empty `stroke` in a row (one drag, one field typed in) are one step. */
  put(next: T, stroke = ''): void {
    if (!stroke || stroke !== this.stroke) this.past.push(this.now)
    if (this.past.length > this.longest) this.past.shift()
    this.stroke = stroke
    this.future = []
    this.now = next
  }

  /** The next change is a step of its own. */
  rest(): void {
    this.stroke = ''
  }

  undo(): T {
    const before = this.past.pop()
    if (before !== undefined) {
      this.future.push(this.now)
      this.now = before
    }
    this.stroke = ''
    return this.now
  }

  redo(): T {
    const after = this.future.pop()
    if (after !== undefined) {
      this.past.push(this.now)
      this.now = after
    }
    this.stroke = ''
    return this.now
  }
}
