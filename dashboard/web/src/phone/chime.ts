/** One short sound for a new task. Browsers allow it only after the page was touched once. */
let context: AudioContext | null = null

export function allowChime(): void {
  context ??= new AudioContext()
  void context.resume()
}

export function chime(): void {
  if (context?.state !== 'running') return
  for (const [hertz, startS] of [
    [660, 0],
    [880, 0.2],
  ] as const) {
    const oscillator = new OscillatorNode(context, { type: 'sine', frequency: hertz })
    const gain = new GainNode(context, { gain: 0.2 })
    oscillator.connect(gain).connect(context.destination)
    const from = context.currentTime + startS
    gain.gain.setTargetAtTime(0, from + 0.14, 0.03)
    oscillator.start(from)
    oscillator.stop(from + 0.4)
  }
}
