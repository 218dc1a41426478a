import { mount } from '@vue/test-utils'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Command, CommandEvent } from '@/api/things'
import type { Me } from '@/api/types'
import CommandCard from '@/command/CommandCard.vue'
import InterlockList from '@/command/InterlockList.vue'
import { mergeCommands, stepsOf } from '@/command/progress'
import { interlockText, outcomeText } from '@/command/words'
import SluiceDrawing from '@/command/SluiceDrawing.vue'
import { language } from '@/i18n'
import { at, NOW } from './build'

beforeEach(() => (language.value = 'zh-CN'))

const LIN = { id: 'lin', name: '林' }
const event = (state: CommandEvent['state'], s: number, actor = '林'): CommandEvent => ({ state, at: at(s), actor, detail: {} })

function build(changes: Partial<Command> = {}): Command {
  return {
    id: 'c1',
    device: { id: 'd1', code: 'SL-01', name: '天水闸' },
    name: 'set_gate_opening',
    parameters: { opening_m: 0.8 },
    reason: '防汛预降',
    state: 'requested',
    second_person: true,
    requested_by: LIN,
    requested_at: at(0),
    approved_by: null,
    approved_at: null,
    sent_at: null,
    acknowledged_at: null,
    ended_at: null,
    expires_at: at(300),
    interlocks: [],
    outcome: null,
    events: [event('requested', 0)],
    ...changes,
  }
}
function show(command: Command, myId: string) {
  const me = { id: myId, name: myId, display_name: myId } as Me
  return mount(CommandCard, { props: { command, now: NOW, me, mayAct: true, busy: false } })
}

describe('the second person', () => {
  it('is somebody else: whoever asked is not offered to approve', () => {
    const mine = show(build(), 'lin')
    expect(mine.find('[data-test=approve]').exists()).toBe(false)
    expect(mine.text()).toContain('等待另一人批准')
    const theirs = show(build(), 'zhou')
    expect(theirs.find('[data-test=approve]').exists()).toBe(true)
  })

  it('is not asked once the command has ended or was approved', () => {
    expect(show(build({ state: 'cancelled' }), 'zhou').find('[data-test=approve]').exists()).toBe(false)
    expect(show(build({ state: 'approved', approved_at: at(5) }), 'zhou').find('[data-test=approve]').exists()).toBe(false)
  })
})

describe('the chain of a command', () => {
  it('shows what was done and what is still to come', () => {
    const steps = stepsOf(build({ state: 'sent', events: [event('requested', 0), event('approved', 5), event('sent', 6)] }))
    expect(steps.map((step) => [step.state, step.done])).toEqual([
      ['requested', true],
      ['approved', true],
      ['sent', true],
      ['acknowledged', false],
      ['verified', false],
    ])
  })

  it('that ended badly promises nothing more', () => {
    const steps = stepsOf(build({ state: 'expired', events: [event('requested', 0), event('expired', 300, 'system')] }))
    expect(steps).toHaveLength(2)
    expect(steps[1]).toMatchObject({ bad: true, who: '系统' })
  })

  it('takes the newer of two tellings, in whatever order they come', () => {
    const old = build()
    const fresh = build({ state: 'approved', events: [event('requested', 0), event('approved', 5)] })
    expect(mergeCommands([fresh], [old])[0]!.state).toBe('approved')
    expect(mergeCommands([old], [fresh])[0]!.state).toBe('approved')
  })

  it('says why it ended, in words', () => {
    expect(outcomeText(build({ state: 'failed', outcome: { code: 'no_reply', detail: '' } }))).toContain('是否执行不得而知')
  })
})

describe('interlocks', () => {
  it('that hold say by how much', () => {
    const text = interlockText({ code: 'level_difference', ok: false, params: { difference_m: 1.82, limit_m: 1.5 } })
    expect(text).toBe('上下游水位差 1.82 m，超过 1.50 m')
  })

  it('with an unknown figure still say what is not met, never "null"', () => {
    const text = interlockText({ code: 'level_difference', ok: false, params: { difference_m: null, limit_m: 1.5 } })
    expect(text).toBe('不满足：上下游水位差不大')
  })

  it('are counted above the list', () => {
    const list = mount(InterlockList, { props: { interlocks: [{ code: 'device_heard', ok: false }, { code: 'no_fault', ok: true }] } })
    expect(list.text()).toContain('1 项联锁不满足')
    expect(list.findAll('li.bad')).toHaveLength(1)
  })
})

describe('the drawing of a gate', () => {
  const metric = (value: number, s = 0) => ({ value, at: at(s) })
  function lift(opening: number, s = 0): string {
    const drawing = mount(SluiceDrawing, {
      props: { now: NOW, metrics: { upstream_level_m: metric(2), downstream_level_m: metric(1), gate_opening_m: metric(opening, s) } },
    })
    return drawing.find('[data-test=leaf]').attributes('style') ?? ''
  }

  it('moves the leaf with the read-back', () => {
    expect(lift(0)).not.toBe(lift(0.5))
    expect(Math.abs(parseFloat(/-?[\d.]+px/.exec(lift(0.5))![0]))).toBeGreaterThan(10)
  })

  it('is greyed when the read-back is old, and shows where the gate was asked to go', () => {
    const drawing = mount(SluiceDrawing, { props: { now: NOW, target: 0.6, metrics: { gate_opening_m: metric(0.2, -3600) } } })
    expect(drawing.find('figure').classes()).toContain('old')
    expect(drawing.find('.target').exists()).toBe(true)
    expect(drawing.text()).toContain('目标开度 0.60 m')
  })
})
