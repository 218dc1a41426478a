/** Reads a JSON Schema (as pydantic writes it) into the fields of a form. */
import type { Schema } from '@/api/things'

export type Entry =
  | { kind: 'number'; whole: boolean; min?: number; max?: number }
  | { kind: 'text'; pattern?: string; maxLength?: number; metric?: boolean }
  | { kind: 'flag' }
  | { kind: 'choice'; options: unknown[] }
  | { kind: 'group'; fields: Field[] }
  /** Time of day, "HH:MM". */
  | { kind: 'time' }
  /** Some of a few. */
  | { kind: 'several'; options: unknown[]; initial: unknown[] }
  /** Rows of the same fields; `plain`: the rows are the values of one field, `tuple`: of several in their order. */
  | { kind: 'list'; fields: Field[]; row: 'group' | 'tuple' | 'plain'; most: number }
  /** What no plain field fits: edited as JSON. */
  | { kind: 'json' }

export interface Field {
  name: string
  title: string
  description: string
  required: boolean
  /** May be left empty, which is sent as null. */
  nullable: boolean
  initial: unknown
  entry: Entry
}

export type Values = Record<string, unknown>

function follow(schema: Schema, root: Schema): Schema {
  if (schema.$ref) {
    const name = schema.$ref.replace(/^#\/\$defs\//, '')
    const { $ref: _, ...beside } = schema
    return { ...follow(root.$defs?.[name] ?? {}, root), ...beside }
  }
  if (schema.allOf?.length === 1) {
    const { allOf, ...beside } = schema
    return { ...follow(allOf[0]!, root), ...beside }
  }
  return schema
}

/** `X | null` as X that may be empty; other unions have no plain field. */
function unwrap(schema: Schema, root: Schema): { schema: Schema; nullable: boolean } {
  const whole = follow(schema, root)
  const choices = whole.anyOf ?? whole.oneOf
  if (Array.isArray(whole.type) && whole.type.includes('null') && whole.type.length === 2) {
    return { schema: { ...whole, type: whole.type.find((one) => one !== 'null') ?? 'string' }, nullable: true }
  }
  if (!choices) return { schema: whole, nullable: false }
  const real = choices.map((one) => follow(one, root)).filter((one) => one.type !== 'null')
  const { anyOf: _any, oneOf: _one, ...beside } = whole
  if (real.length === 1) return { schema: { ...real[0], ...beside }, nullable: real.length < choices.length }
  return { schema: beside, nullable: real.length < choices.length }
}

function readEntry(schema: Schema, root: Schema): Entry {
  if (schema.enum) return { kind: 'choice', options: schema.enum }
  if (schema.const !== undefined) return { kind: 'choice', options: [schema.const] }
  switch (schema.type) {
    case 'boolean':
      return { kind: 'flag' }
    case 'integer':
    case 'number': {
      const entry: Entry = { kind: 'number', whole: schema.type === 'integer' }
      const min = schema.minimum ?? schema.exclusiveMinimum
      const max = schema.maximum ?? schema.exclusiveMaximum
      if (min !== undefined) entry.min = min
      if (max !== undefined) entry.max = max
      return entry
    }
    case 'array':
      return readList(schema, root)
    case 'string': {
      if (schema.format === 'time') return { kind: 'time' }
      const entry: Entry = { kind: 'text' }
      if (schema.pattern !== undefined) entry.pattern = schema.pattern
      if (schema.maxLength !== undefined) entry.maxLength = schema.maxLength
      if (schema['x-choice'] === 'metric') entry.metric = true
      return entry
    }
    case 'object':
      return schema.properties ? { kind: 'group', fields: readFields(schema, root) } : { kind: 'json' }
    default:
      return { kind: 'json' }
  }
}

const field = (name: string, entry: Entry): Field => ({ name, title: name, description: '', required: true, nullable: false, initial: undefined, entry })

function readList(schema: Schema, root: Schema): Entry {
  const most = schema.maxItems ?? 100
  if (schema.prefixItems || !schema.items) return { kind: 'json' }
  const { schema: item } = unwrap(schema.items, root)
  if (item.enum) return { kind: 'several', options: item.enum, initial: Array.isArray(schema.default) ? schema.default : [] }
  if (item.prefixItems) {
    const fields = item.prefixItems.map((one, index) => field(String(index), readEntry(unwrap(one, root).schema, root)))
    return fields.some((one) => one.entry.kind === 'json') ? { kind: 'json' } : { kind: 'list', fields, row: 'tuple', most }
  }
  const entry = readEntry(item, root)
  if (entry.kind === 'group') return { kind: 'list', fields: entry.fields, row: 'group', most }
  return entry.kind === 'number' || entry.kind === 'text' || entry.kind === 'choice' ? { kind: 'list', fields: [field('0', entry)], row: 'plain', most } : { kind: 'json' }
}

/** A row of a list as the values of its fields, and back. */
export function rowValues(row: unknown, entry: Extract<Entry, { kind: 'list' }>): Values {
  if (entry.row === 'group') return typeof row === 'object' && row !== null ? (row as Values) : {}
  const parts = entry.row === 'tuple' && Array.isArray(row) ? row : [row]
  return Object.fromEntries(entry.fields.map((one, index) => [one.name, parts[index]]))
}
export function rowOf(values: Values, entry: Extract<Entry, { kind: 'list' }>): unknown {
  if (entry.row === 'tuple') return entry.fields.map((one) => values[one.name] ?? 0)
  return entry.row === 'plain' ? values[entry.fields[0]!.name] : values
}
export function freshRow(entry: Extract<Entry, { kind: 'list' }>): unknown {
  return rowOf(startValues(entry.fields), entry)
}

/** Fields in the order in which the schema names them. */
export function readFields(schema: Schema, root: Schema = schema): Field[] {
  const whole = follow(schema, root)
  return Object.entries(whole.properties ?? {}).map(([name, one]) => {
    const { schema: inner, nullable } = unwrap(one, root)
    return {
      name,
      title: inner.title ?? name,
      description: inner.description ?? '',
      required: whole.required?.includes(name) ?? false,
      nullable,
      initial: inner.default ?? one.default,
      entry: readEntry(inner, root),
    }
  })
}

/** What a form begins with: given values first, then defaults; what has neither stays empty. */
export function startValues(fields: Field[], given: Values = {}): Values {
  const values: Values = {}
  for (const field of fields) {
    if (field.name in given) values[field.name] = given[field.name]
    else if (field.initial !== undefined) values[field.name] = field.initial
    else if (field.entry.kind === 'flag') values[field.name] = false
    else if (field.entry.kind === 'choice' && field.required) values[field.name] = field.entry.options[0]
    if (field.entry.kind === 'group') {
      const inner = values[field.name]
      values[field.name] = startValues(field.entry.fields, typeof inner === 'object' && inner !== null ? (inner as Values) : {})
    }
  }
  return values
}

/** Names of fields that must have a value and have none. */
export function missingFields(fields: Field[], values: Values): string[] {
  return fields.flatMap((field) => {
    const value = values[field.name]
    if (field.entry.kind === 'group') return missingFields(field.entry.fields, (value ?? {}) as Values)
    if (field.entry.kind === 'list' && Array.isArray(value)) {
      const { entry } = field
      if (value.some((row) => missingFields(entry.fields, rowValues(row, entry)).length)) return [field.name]
    }
    return field.required && !field.nullable && (value === undefined || value === null || value === '') ? [field.name] : []
  })
}

/** A text of "English / 中文" or "中文 / English", as descriptions of the models are: the half for this reader. */
export function pickHalf(text: string, chinese: boolean): string {
  const halves = text.split(/\s+\/\s+/)
  if (halves.length !== 2) return text
  const isChinese = (half: string) => /[\u4e00-\u9fff]/.test(half)
  return halves.find((half) => isChinese(half) === chinese) ?? text
}
