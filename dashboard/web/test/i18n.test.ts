import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { en as enBase } from '@/i18n/en'
import { fill, language, t, tx } from '@/i18n'
import { zh as zhBase } from '@/i18n/zh'
import { enEngineer } from '@/engineer/words/en'
import { zhEngineer } from '@/engineer/words/zh'

const zh = { ...zhBase, ...zhEngineer }
const en = { ...enBase, ...enEngineer }
const SOURCE = join(__dirname, '..', 'src')
const PROJECT = join(__dirname, '..', '..', '..')
const keys = Object.keys(zh) as (keyof typeof zh)[]

function readTree(folder: string): string {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !(entry.isDirectory() && ['i18n', 'words'].includes(entry.name)))
    .map((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return readTree(path)
      return /\.(ts|vue)$/.test(entry.name) ? readFileSync(path, 'utf8') : ''
    })
    .join('\n')
}

function placeholders(text: string): string[] {
  return [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1] as string).sort()
}

/** Values of a StrEnum of the server, read from its source. */
function serverEnum(file: string, name: string): string[] {
  const text = readFileSync(join(PROJECT, file), 'utf8')
  const body = text.split(`class ${name}(StrEnum):`)[1]?.split(/\nclass |\n\n\n/)[0] ?? ''
  return [...body.matchAll(/^ {4}[A-Z_]+ = "(\w+)"/gm)].map((match) => match[1] as string)
}

describe('both languages', () => {
  it('have the same keys', () => {
    expect(Object.keys(en).sort()).toEqual([...keys].sort())
  })

  it.each(keys)('say the same figures in %s', (key) => {
    expect(placeholders(en[key])).toEqual(placeholders(zh[key]))
  })

  it('do not mix: English has no Chinese characters', () => {
    const mixed = keys.filter((key) => /[\u3000-\u9fff\uff00-\uffef]/.test(en[key]) && key !== 'language.other')
    expect(mixed).toEqual([])
  })

  it('do not mix: Chinese has no untranslated English', () => {
    const words = /^(pH|English)$|gridwarden user add|WebGL|ISA-18|\{|JPEG/
    const left = keys.filter((key) => !/[\u4e00-\u9fff，：]/.test(zh[key]) && !words.test(zh[key]))
    expect(left).toEqual([])
  })
})

it('the engineers\' words repeat none of the others', () => {
  expect(Object.keys(zhEngineer).filter((key) => key in zhBase)).toEqual([])
})

describe('the keys that the pages use', () => {
  const source = readTree(SOURCE)

  it('all exist', () => {
    const used = [...source.matchAll(/\bt\(\s*'([\w.]+)'/g)].map((match) => match[1] as string)
    expect(used.length).toBeGreaterThan(100)
    expect(used.filter((key) => !(key in zh))).toEqual([])
  })

  it('are all that there are', () => {
    const families = [...source.matchAll(/\b(?:tx|hasText)\('(\w+)'/g)].map((match) => match[1] as string)
    const built = [...source.matchAll(/t\(`([\w.]+?)\$\{/g)].map((match) => match[1] as string)
    const unused = keys.filter(
      (key) =>
        !source.includes(`'${key}'`) &&
        !families.some((family) => key.startsWith(`${family}.`)) &&
        !built.some((start) => key.startsWith(start)),
    )
    expect(unused).toEqual([])
  })
})

describe('codes of the server', () => {
  it.each([
    ['kernel/types.py', 'IncidentState', 'state'],
    ['kernel/types.py', 'Role', 'role'],
    ['kernel/types.py', 'Source', 'source'],
    ['kernel/types.py', 'Verdict', 'verdict'],
    ['kernel/types.py', 'CheckKind', 'check_kind'],
    ['dispatch/model.py', 'Action', 'event'],
    ['dispatch/model.py', 'Happening', 'event'],
    ['dispatch/model.py', 'OperatorNeed', 'needs'],
    ['vision/health.py', 'Blindness', 'said'],
    ['vision/check.py', 'CheckDoubt', 'said'],
    ['devices/command_model.py', 'CommandState', 'command_state'],
    ['devices/command_model.py', 'OutcomeCode', 'outcome'],
    ['devices/rulebook.py', 'Mode', 'rule_mode'],
    ['devices/homes.py', 'ConsentState', 'consent'],
    ['devices/homes.py', 'ContactRole', 'contact_role'],
    ['devices/parking/session.py', 'SessionState', 'parking_state'],
    ['devices/parking/statement.py', 'StatementState', 'parking_state'],
    ['devices/water.py', 'WaterClass', 'water_class'],
    ['ingest/mapping.py', 'Code', 'mapping_problem'],
    ['ingest/decode.py', 'Reason', 'dead_letter'],
  ])('%s %s have words', (file, name, family) => {
    const codes = serverEnum(file, name)
    expect(codes.length).toBeGreaterThan(2)
    expect(codes.filter((code) => !(`${family}.${code}` in zh))).toEqual([])
  })

  it('refusals of an action have words', () => {
    const text = readFileSync(join(PROJECT, 'dispatch/model.py'), 'utf8')
    const codes = [...text.matchAll(/^ {4}"(\w+)": 4\d\d,/gm)].map((match) => match[1] as string)
    expect(codes.length).toBeGreaterThan(10)
    expect(codes.filter((code) => !(`problem.${code}` in zh))).toEqual([])
  })

  it('interlocks have words', () => {
    const files = ['devices/interlock.py', 'devices/kinds/river_sluice.py', 'devices/kinds/parking_gate.py', 'devices/kinds/siren.py']
    const text = files.map((file) => readFileSync(join(PROJECT, file), 'utf8')).join('\n')
    const codes = [...text.matchAll(/Interlock\(\s*code="(\w+)"/g)].map((match) => match[1] as string)
    expect(codes.length).toBeGreaterThan(8)
    expect(codes.filter((code) => !(`interlock.${code}` in zh))).toEqual([])
  })

  it('refusals of the routes about devices have words', () => {
    const folder = join(PROJECT, 'dashboard')
    const asked = ['registry', 'registration', 'rules', 'commands', 'parking', 'home', 'mappings', 'dead_letter', 'readings', 'console_api']
    const text = asked.map((name) => readFileSync(join(folder, `${name}.py`), 'utf8')).join('\n')
    const codes = [...text.matchAll(/Problem\(\s*4\d\d,\s*"(\w+)"/g)].map((match) => match[1] as string)
    expect(codes.length).toBeGreaterThan(10)
    expect([...new Set(codes)].filter((code) => !(`problem.${code}` in zh))).toEqual([])
  })

  it('kinds, rules and metrics of devices have words', () => {
    const folder = join(PROJECT, 'devices', 'kinds')
    const names = readdirSync(folder).filter((name) => name.endsWith('.py') && !name.startsWith('_'))
    const text = names.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n')
    const metrics = [...text.matchAll(/Metric\(name="(\w+)"/g)].map((match) => `metric.${match[1]}`)
    const rules = [...text.matchAll(/Rule\(\s*name="(\w+)"/g)].map((match) => `rule.${match[1]}`)
    const kinds = names.map((name) => `kind.${name.replace('.py', '')}`)
    expect(metrics.length).toBeGreaterThan(10)
    expect([...metrics, ...rules, ...kinds].filter((key) => !(key in zh))).toEqual([])
  })
})

describe('looking a text up', () => {
  it('fills in figures and leaves what is not given', () => {
    expect(fill('{n} of {all}', { n: 3 })).toBe('3 of {all}')
  })

  it('shows a code that nobody has translated yet as plain words', () => {
    language.value = 'en'
    expect(tx('state', 'brand_new_state')).toBe('brand new state')
    expect(t('close')).toBe('Close')
  })
})
