import { mount } from '@vue/test-utils'
import { nextTick } from 'vue'
import { beforeEach, expect, it, vi } from 'vitest'
import { applyMessages } from '@/model/city'
import { city, selectedId, selectIncident } from '@/wall/desk'
import QueuePanel from '@/wall/QueuePanel.vue'
import { buildIncident, buildSnapshot, NOW } from './build'

beforeEach(() => {
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('no network in this test')))
  selectIncident(null)
})

function show(count: number) {
  const incidents = Array.from({ length: count }, (_, index) =>
    buildIncident({ area: { street: '天水街道', community: `社区${index % 7}`, grid: '' } }),
  )
  applyMessages(city, [buildSnapshot(1, incidents)], NOW)
  return { incidents, panel: mount(QueuePanel, { props: { now: NOW, search: '' } }) }
}

it('an empty queue says so, and what is being watched', () => {
  const { panel } = show(0)
  expect(panel.text()).toContain('没有待办案件')
  expect(panel.text()).toContain('正在监看 0 台设备')
})

it('J and K walk through the queue and stop at its ends', () => {
  const { panel } = show(3)
  const rows = panel.findAll('[data-incident]').map((row) => row.attributes('data-incident'))
  const { step } = panel.vm as unknown as { step: (by: 1 | -1) => void }
  const chosen = () => city.incidents.value.get(selectedId.value ?? '')?.number
  step(1)
  expect(chosen()).toBe(rows[0])
  step(1)
  step(1)
  step(1)
  expect(chosen()).toBe(rows[2])
  step(-1)
  expect(chosen()).toBe(rows[1])
})

it('two thousand incidents are grouped, and only the rows in sight are drawn', async () => {
  const { panel } = show(2000)
  expect(panel.findAll('.group')).toHaveLength(7)
  await panel.find('.group').trigger('click')
  await nextTick()
  expect(panel.findAll('[data-incident]').length).toBeGreaterThan(5)
  expect(panel.findAll('[data-incident]').length).toBeLessThan(40)
})
