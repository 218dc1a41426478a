import { beforeEach, describe, expect, it } from 'vitest'
import { language } from '@/i18n'
import { age, clockTime, distance, setTimeZone, shortTime, span, timeLeft, zoneName } from '@/model/clock'
import { at, NOW } from './build'

beforeEach(() => {
  language.value = 'zh-CN'
  setTimeZone('Asia/Shanghai')
})

describe('time as people read it', () => {
  it("is the city's, wherever the browser stands", () => {
    expect(clockTime(NOW)).toBe('16:00:00')
    expect(zoneName(NOW)).toBe('UTC+8')
  })

  it('shows the date when it is another day', () => {
    expect(shortTime(at(-3600), NOW)).toBe('15:00')
    expect(shortTime(at(-86_400), NOW)).toMatch(/11[/-]19.* 16:00/)
  })

  it('counts down in seconds below an hour and says when it is over', () => {
    expect(timeLeft(754)).toBe('剩 12:34')
    expect(timeLeft(-61)).toBe('超 1:01')
    expect(timeLeft(null)).toBe('')
  })

  it('says lengths in the two units that matter, in both languages', () => {
    expect([42, 150, 7500, 200_000].map(span)).toEqual(['42 秒', '2 分', '2 时 5 分', '2 天 7 时'])
    language.value = 'en'
    expect([42, 150, 7500, 200_000].map(span)).toEqual(['42 s', '2 min', '2 h 5 min', '2 d 7 h'])
  })

  it('never makes up an age', () => {
    expect(age(null, NOW)).toBe('从未收到')
    expect(age(at(-30), NOW)).toBe('30 秒前')
  })
})

it('distances are as exact as a phone can know them', () => {
  expect([3, 57, 994, 1240].map(distance)).toEqual(['0 m', '60 m', '990 m', '1.2 km'])
  expect(distance(null)).toBe('')
})
