/** Reads the little that the player needs from fragmented MP4 (ISO/IEC 14496-12): the clock, and where key frames are. */

type Box = { type: string; start: number; end: number }

function readBoxes(view: DataView, from: number, until: number): Box[] {
  const boxes: Box[] = []
  let at = from
  while (at + 8 <= until) {
    const size = view.getUint32(at)
    const type = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5), view.getUint8(at + 6), view.getUint8(at + 7))
    const end = size === 0 ? until : at + size
    if (size !== 0 && size < 8) break
    boxes.push({ type, start: at + 8, end: Math.min(end, until) })
    at = end
  }
  return boxes
}

function find(view: DataView, from: Box, ...path: string[]): Box | null {
  let here: Box | null = from
  for (const type of path) {
    here = here ? (readBoxes(view, here.start, here.end).find((one) => one.type === type) ?? null) : null
  }
  return here
}

function whole(bytes: ArrayBuffer): [DataView, Box] {
  const view = new DataView(bytes)
  return [view, { type: '', start: 0, end: bytes.byteLength }]
}

/** Ticks per second of the first track of an initialisation segment; null when it is none. */
export function readTimescale(bytes: ArrayBuffer): number | null {
  const [view, all] = whole(bytes)
  const header = find(view, all, 'moov', 'trak', 'mdia', 'mdhd')
  if (!header) return null
  const wide = view.getUint8(header.start) === 1
  return view.getUint32(header.start + (wide ? 20 : 12)) || null
}

export interface FragmentHead {
  /** Decode time of the first sample, in ticks. */
  ticks: number
  isKey: boolean
}

const NOT_SYNC = 0x0001_0000

/** The head of a fragment (moof + mdat); null when the bytes are something else. */
export function readFragment(bytes: ArrayBuffer): FragmentHead | null {
  const [view, all] = whole(bytes)
  const track = find(view, all, 'moof', 'traf')
  const time = track && find(view, track, 'tfdt')
  if (!track || !time) return null
  const wide = view.getUint8(time.start) === 1
  const ticks = wide ? Number(view.getBigUint64(time.start + 4)) : view.getUint32(time.start + 4)
  return { ticks, isKey: !(readFirstFlags(view, track) & NOT_SYNC) }
}

function readFirstFlags(view: DataView, track: Box): number {
  const run = find(view, track, 'trun')
  if (run) {
    const flags = view.getUint32(run.start) & 0xff_ffff
    let at = run.start + 8
    if (flags & 0x1) at += 4
    if (flags & 0x4) return view.getUint32(at)
    if (flags & 0x400) return view.getUint32(at + (flags & 0x100 ? 4 : 0) + (flags & 0x200 ? 4 : 0))
  }
  const header = find(view, track, 'tfhd')
  if (!header) return 0
  const flags = view.getUint32(header.start) & 0xff_ffff
  if (!(flags & 0x20)) return 0
  let at = header.start + 8
  for (const [bit, bytes] of [[0x1, 8], [0x2, 4], [0x8, 4], [0x10, 4]] as const) if (flags & bit) at += bytes
  return view.getUint32(at)
}
