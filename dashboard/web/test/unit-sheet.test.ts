// @vitest-environment happy-dom
import { flushPromises, mount } from '@vue/test-utils'
import { afterEach, describe, expect, it, vi } from 'vitest'
import UnitSheet from '@/phone/UnitSheet.vue'
import { client } from '@/phone/worker'
import { client as wall } from '@/wall/desk'
import UnitAsk from '@/wall/panel/UnitAsk.vue'

const incident = (id: string, state: string) => ({
  id,
  number: `20261120-${id}`,
  state,
  place: '天水巷',
  category: { zh: '垃圾箱满溢', en: 'Bin overflow' },
  assignee: null,
})
const page = (leads: boolean) => ({
  id: 'u1',
  name: '环卫保洁作业单位',
  leads,
  people: [
    { id: 'p1', name: '保洁员', on_duty: true, leads: false, open_tasks: 2 },
    { id: 'p2', name: '夜班', on_duty: false, leads: false, open_tasks: 0 },
  ],
  incidents: [
    { unit_state: 'asked', incident: incident('1', 'filed') },
    { unit_state: 'accepted', incident: incident('2', 'filed') },
  ],
})

async function open(leads: boolean) {
  HTMLDialogElement.prototype.showModal = () => undefined
  vi.spyOn(client, 'get').mockImplementation(async (path: string) =>
    (path.startsWith('/units?') ? [{ id: 'u1', name: '环卫保洁作业单位' }] : page(leads)) as never,
  )
  const post = vi.spyOn(client, 'post').mockResolvedValue({} as never)
  const sheet = mount(UnitSheet)
  await flushPromises()
  return { sheet, post }
}

afterEach(() => vi.restoreAllMocks())

describe('the page of a handling unit', () => {
  it('lets its head accept, refuse with a reason, and send who is on duty', async () => {
    const { sheet, post } = await open(true)
    await sheet.get('[data-test=accept]').trigger('click')
    expect(post).toHaveBeenLastCalledWith('/incidents/1/unit/answer', { accepted: true })
    await flushPromises()
    await sheet.get('[data-test=send]').trigger('click')
    const crew = sheet.findAll('[data-unit-state=accepted] button').filter((one) => one.text().startsWith('保洁员'))
    expect(sheet.get('[data-unit-state=accepted]').text()).not.toContain('夜班')
    await crew[0]!.trigger('click')
    expect(post).toHaveBeenLastCalledWith('/incidents/2/unit/crew', { user_id: 'p1' })
    await flushPromises()
    await sheet.get('[data-test=refuse]').trigger('click')
    await sheet.get('input').setValue('不属本单位')
    await sheet.get('form').trigger('submit')
    expect(post).toHaveBeenLastCalledWith('/incidents/1/unit/answer', { accepted: false, reason: '不属本单位' })
  })

  it('shows everybody else what there is, without the answers', async () => {
    const { sheet, post } = await open(false)
    expect(sheet.text()).toContain('20261120-1')
    expect(sheet.find('[data-test=accept]').exists() || sheet.find('[data-test=send]').exists()).toBe(false)
    await sheet.get('[data-test=feedback]').trigger('click')
    await sheet.get('input').setValue('在路上')
    await sheet.get('form').trigger('submit')
    expect(post).toHaveBeenLastCalledWith('/incidents/2/unit/feedback', { text: '在路上' })
  })
})

it('an operator hands a filed incident to the unit that the duty rules name', async () => {
  vi.spyOn(wall, 'get').mockResolvedValue([{ id: 'u1', name: '环卫保洁作业单位', kind: 'contractor', by_rule: true }] as never)
  const post = vi.spyOn(wall, 'post').mockResolvedValue({} as never)
  const panel = mount(UnitAsk, { props: { incidentId: '7' } })
  await panel.get('[data-test=units]').trigger('click')
  await flushPromises()
  expect(panel.get('[data-unit]').text()).toContain('按职责清单')
  await panel.get('[data-unit]').trigger('click')
  await flushPromises()
  expect(post).toHaveBeenLastCalledWith('/incidents/7/unit', { unit_id: 'u1' })
  expect(panel.text()).toContain('已请环卫保洁作业单位接办。')
})
