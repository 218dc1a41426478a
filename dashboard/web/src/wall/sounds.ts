/** Three sounds, short and distinct, drawn by the browser: no file, quiet until an operator turns them on. */
import { ref } from 'vue'
import { read, write } from '@/ui/preferences'

export type Sound = 'urgent' | 'new' | 'done'

const NOTES: Record<Sound, [hertz: number, startS: number, lengthS: number][]> = {
  urgent: [
    [880, 0, 0.14],
    [660, 0.18, 0.14],
    [880, 0.36, 0.2],
  ],
  new: [[587, 0, 0.18]],
  done: [
    [523, 0, 0.1],
    [784, 0.12, 0.18],
  ],
}
const LOUDNESS = 0.12

export const soundOn = ref(read('sound') === 'on')
let context: AudioContext | null = null

export function play(sound: Sound): void {
  if (!soundOn.value) return
  context ??= new AudioContext()
  for (const [hertz, startS, lengthS] of NOTES[sound]) {
    const oscillator = new OscillatorNode(context, { type: 'sine', frequency: hertz })
    const gain = new GainNode(context, { gain: 0 })
    const from = context.currentTime + startS
    gain.gain.setTargetAtTime(LOUDNESS, from, 0.01)
    gain.gain.setTargetAtTime(0, from + lengthS, 0.04)
    oscillator.connect(gain).connect(context.destination)
    oscillator.start(from)
    oscillator.stop(from + lengthS + 0.3)
  }
}

/** Turning sounds on plays all three: that is the test at the start of a shift. */
export function toggleSound(): void {
  soundOn.value = !soundOn.value
  write('sound', soundOn.value ? 'on' : 'off')
  if (!soundOn.value) return
  play('new')
  setTimeout(() => play('urgent'), 700)
  setTimeout(() => play('done'), 1600)
}
