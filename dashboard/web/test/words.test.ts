import { beforeEach, describe, expect, it } from 'vitest'
import { language } from '@/i18n'
import { deviceLook, metricText } from '@/model/device'
import { actorText, joinReasons, reasonsOf, reasonText, saidText } from '@/model/reason'
import type { Device } from '@/api/types'
import { at, NOW } from './build'

beforeEach(() => (language.value = 'zh-CN'))

describe('reasons', () => {
  it('are put into words with their figures', () => {
    expect(reasonText({ code: 'distance', distance_m: 268.4 })).toBe('距现场 270 m')
    expect(joinReasons([{ code: 'own_grid' }, { code: 'open_tasks', count: 2 }])).toBe('属本责任网格，在办 2 件')
    expect(joinReasons(['off_duty', 'farther'])).toBe('不在岗，距离更远')
  })

  it('say less when a figure is missing, never "null"', () => {
    expect(reasonText({ code: 'distance', distance_m: null })).toBe('距离未知')
  })

  it('are found in the record of an assignment', () => {
    expect(reasonsOf({ reasons: [{ code: 'nearest' }], others: [] })).toEqual([{ code: 'nearest' }])
  })

  it('of a doubtful check name what the camera said', () => {
    expect(reasonText({ code: 'check_inconclusive', said: 'dark' })).toBe('设备复查无法判断（画面过暗）')
  })
})

describe('what devices and people said', () => {
  it('is translated when it is ours and left alone when it is not', () => {
    expect(saidText('the alarm is still active')).toBe('报警仍在持续')
    expect(saidText('门口堵住了')).toBe('门口堵住了')
  })

  it('names who acted', () => {
    expect(actorText('dispatch')).toBe('系统')
    expect(actorText('camera 天水-07')).toBe('摄像机 天水-07')
    expect(actorText('陈晓')).toBe('陈晓')
  })
})

describe('devices', () => {
  const device: Device = {
    id: 'd',
    map_id: 1,
    code: 'CAM-01',
    kind: 'camera',
    name: '摄像机',
    lon: 120,
    lat: 30,
    cell_code: '',
    status: 'ok',
    metrics: {},
    alarms: {},
    last_seen_at: at(0),
    camera: null,
  }

  it('that were not heard for too long do not look well', () => {
    expect(deviceLook(device, NOW)).toBe('ok')
    expect(deviceLook(device, NOW + 600_000)).toBe('offline')
    expect(deviceLook({ ...device, last_seen_at: null }, NOW)).toBe('unknown')
  })

  it('show figures with their unit, and yes or no where that is meant', () => {
    expect(metricText('level_m', { value: 2.345, at: '' })).toBe('2.35 m')
    expect(metricText('flow_m3_s', { value: 12, at: '' })).toBe('12 m³/s')
    expect(metricText('open', { value: 1, at: '' })).toBe('是')
  })
})
