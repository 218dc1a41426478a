import { describe, expect, it } from 'vitest'
import { fitSeat, readSeat } from '@/login/seat'
import { isOnEarth, metresBetween, moveBy, sector } from '@/model/geometry'
import { amapLink, baiduLink } from '@/phone/navigation'
import { fitSize } from '@/phone/photo'
import { decodeKey } from '@/phone/push'
import { labelPoints, ringCentre } from '@/wall/map/labels'
import { sliceName, writePhoneSheet, writeStyleSheet } from '../build/fonts'

describe('on the ground', () => {
  it('a camera looking north sees north', () => {
    const ring = sector(120.17, 30.28, 0, 60, 50)
    expect(ring[0]).toEqual(ring.at(-1))
    expect(Math.max(...ring.map(([, lat]) => lat as number))).toBeGreaterThan(30.28 + 0.0004)
    expect(Math.min(...ring.map(([, lat]) => lat as number))).toBe(30.28)
  })

  it('distances come out as they were walked', () => {
    const [lon, lat] = moveBy(120.17, 30.28, 73, 420) as [number, number]
    expect(metresBetween({ lon: 120.17, lat: 30.28 }, { lon, lat })).toBeCloseTo(420, 0)
  })

  it('a longitude that is none is kept off the map', () => {
    expect(isOnEarth(120, 30)).toBe(true)
    for (const bad of [NaN, Infinity, 400, null, '120']) expect(isOnEarth(bad, 30)).toBe(false)
  })

  it('the name of an area stands at its centre, once', () => {
    const square = [
      [120, 30],
      [120.02, 30],
      [120.02, 30.02],
      [120, 30.02],
      [120, 30],
    ]
    expect(ringCentre(square)[0]).toBeCloseTo(120.01, 9)
    expect(ringCentre(square)[1]).toBeCloseTo(30.01, 9)
    const two = { type: 'MultiPolygon' as const, coordinates: [[square], [square.map(([x, y]) => [x! / 2, y! / 2])]] }
    const area = { type: 'Feature' as const, properties: { name: '天水街道' }, geometry: two }
    expect(labelPoints({ type: 'FeatureCollection', features: [area] }).features).toHaveLength(1)
  })
})

describe('ways to a place', () => {
  it('say in which system their coordinates are', () => {
    const there = { lon: 120.17, lat: 30.28, name: '武林路 86 号' }
    expect(new URL(amapLink(there)).searchParams.get('coordinate')).toBe('wgs84')
    expect(new URL(amapLink(there)).searchParams.get('to')).toBe('120.17,30.28,武林路 86 号')
    expect(new URL(baiduLink(there)).searchParams.get('coord_type')).toBe('wgs84')
    expect(new URL(baiduLink(there)).searchParams.get('destination')).toContain('latlng:30.28,120.17')
  })

  it('lead to the page that fits the person', () => {
    expect(fitSeat(['grid_worker'], 'wall')).toBe('phone')
    expect(fitSeat(['operator'], 'phone')).toBe('wall')
    expect(fitSeat(['operator', 'grid_worker'], 'phone')).toBe('phone')
    expect(readSeat('?seat=phone', 1920)).toBe('phone')
    expect(readSeat('', 390)).toBe('phone')
  })
})

it('a photograph is at most 1,600 px and never enlarged', () => {
  expect(fitSize(4000, 3000)).toEqual({ width: 1600, height: 1200 })
  expect(fitSize(640, 480)).toEqual({ width: 640, height: 480 })
})

it('the key for push is read from base64url without padding', () => {
  expect([...decodeKey('-_8')]).toEqual([251, 255])
})

it('each slice of the font is one face for each weight', () => {
  const sheet = writeStyleSheet({ '[4]': 'U+1f1e9', latin: 'U+0-FF' })
  expect(sheet.match(/@font-face/g)).toHaveLength(4)
  expect(sheet).toContain('noto-sans-sc-4-400-normal.woff2')
  expect(sliceName('latin')).toBe('latin')
  const phone = writePhoneSheet({ '[4]': 'U+1f1e9', latin: 'U+0-FF' })
  expect(phone.match(/@font-face/g)).toHaveLength(1)
  expect(phone.indexOf('local(')).toBeLessThan(phone.indexOf('url('))
})
