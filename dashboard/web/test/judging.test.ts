import { beforeEach, describe, expect, it, vi } from 'vitest'
import { Client } from '@/api/client'
import type { IncidentReport } from '@/api/types'
import { readFound } from '@/finding/finding'
import { Judging } from '@/finding/judging'

function desk(): { judging: Judging; sent: { path: string; body: unknown }[] } {
  const sent: { path: string; body: unknown }[] = []
  const client = new Client('wall', (path, init) => {
    sent.push({ path: String(path), body: JSON.parse(String(init?.body)) })
    return Promise.resolve(new Response(String(init?.body), { status: 200 }))
  })
  const judging = new Judging(client)
  judging.point({ reportId: 'r1' })
  return { judging, sent }
}

describe('judging a finding', () => {
  beforeEach(() => void vi.useFakeTimers())

  it('is one key when it is right, sent when the time to take it back is over', async () => {
    const { judging, sent } = desk()
    judging.right()
    expect(judging.said.get('r1')).toMatchObject({ right: true })
    expect(sent).toEqual([])
    await vi.advanceTimersByTimeAsync(5100)
    expect(sent).toEqual([{ path: '/api/v1/findings/r1/judgement', body: { right: true, why: 'as_reported', note: '' } }])
  })

  it('asks why when it is wrong, and a number answers', async () => {
    const { judging, sent } = desk()
    judging.why(2)
    expect(judging.said.size).toBe(0)
    judging.wrong()
    expect(judging.asking.value).toBe(true)
    judging.why(2)
    await judging.flush()
    expect(sent[0]!.body).toEqual({ right: false, why: 'wrong_object', note: '' })
  })

  it('is taken back with nothing sent', async () => {
    const { judging, sent } = desk()
    judging.right()
    judging.undo()
    await vi.advanceTimersByTimeAsync(6000)
    expect(sent).toEqual([])
    expect(judging.said.get('r1')).toBeNull()
  })

  it('sends the one before when the next is judged', () => {
    const { judging, sent } = desk()
    judging.right()
    judging.point({ reportId: 'r2' })
    judging.right()
    expect(sent.map((one) => one.path)).toEqual(['/api/v1/findings/r1/judgement'])
  })
})

it('an older report is read with what it has', () => {
  const report = { id: 'r', source: 'camera', rule: 'crowding', zone: 'A', device: null, occurred_at: '2026-11-21T00:00:00Z', evidence_ids: ['e'], detail: { score: 0.5, polygon: 'no' } }
  const found = readFound(report as unknown as IncidentReport)
  expect(found).toMatchObject({ score: 0.5, polygon: [], clip: null, model: null })
  expect(found.pictures).toEqual([{ moment: 'threshold', id: 'e', missing: null }])
})
