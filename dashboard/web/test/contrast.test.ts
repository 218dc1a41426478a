import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const sheet = readFileSync(join(__dirname, '../src/theme/tokens.css'), 'utf8')

function colours(theme: string): Record<string, string> {
  const body = sheet.split(`:root[data-theme='${theme}']`)[1]?.split('}')[0] ?? ''
  return Object.fromEntries([...body.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((match) => [match[1], match[2]]))
}

/** Relative luminance and contrast ratio as WCAG 2.2 defines them. */
function luminance(hex: string): number {
  const parts = [1, 3, 5].map((at) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * parts[0]! + 0.7152 * parts[1]! + 0.0722 * parts[2]!
}
function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number]
  return (high + 0.05) / (low + 0.05)
}

describe.each(['dark', 'light'])('the %s theme', (theme) => {
  const of = colours(theme)

  it.each(['text', 'muted', 'amber', 'red', 'green', 'focus', 'staff'])('%s can be read on page and panel (AA)', (name) => {
    for (const ground of ['page', 'panel']) expect(contrast(of[name]!, of[ground]!)).toBeGreaterThanOrEqual(4.5)
  })

  it('the words on the big button can be read', () => {
    expect(contrast(of['on-focus']!, of.focus!)).toBeGreaterThanOrEqual(4.5)
  })

  it('edges of fields and what is stale can be seen (3 : 1)', () => {
    expect(contrast(of['line-strong']!, of.panel!)).toBeGreaterThanOrEqual(3)
    expect(contrast(of.stale!, of.panel!)).toBeGreaterThanOrEqual(3)
  })
})
