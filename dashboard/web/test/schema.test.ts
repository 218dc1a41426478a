import { mount } from '@vue/test-utils'
import { describe, expect, it } from 'vitest'
import { missingFields, pickHalf, readFields, startValues } from '@/form/schema'
import SchemaForm from '@/form/SchemaForm.vue'
import type { Schema } from '@/api/things'

/** As pydantic writes it: references, unions with null, defaults. */
const SCHEMA: Schema = {
  type: 'object',
  required: ['metric', 'limit', 'side'],
  properties: {
    metric: { type: 'string', 'x-choice': 'metric' },
    limit: { type: 'number', minimum: -10, maximum: 10 },
    side: { $ref: '#/$defs/Side' },
    hold_s: { type: 'number', default: 30 },
    note: { anyOf: [{ type: 'string' }, { type: 'null' }], default: null },
    window: { $ref: '#/$defs/Window' },
    more: { type: 'array', items: { type: 'string' } },
  },
  $defs: {
    Side: { enum: ['upper', 'lower'], type: 'string' },
    Window: { type: 'object', properties: { hours: { type: 'integer', default: 8 } } },
  },
}

describe('a schema becomes a form', () => {
  const fields = readFields(SCHEMA)

  it('with an entry that fits each field', () => {
    expect(fields.map((field) => field.entry.kind)).toEqual(['text', 'number', 'choice', 'number', 'text', 'group', 'list'])
    expect(fields[1]!.entry).toMatchObject({ min: -10, max: 10, whole: false })
    expect(fields[4]!.nullable).toBe(true)
  })

  it('that begins with what is given, then with defaults, and with the first choice where one is needed', () => {
    const values = startValues(fields, { limit: 3 })
    expect(values).toMatchObject({ limit: 3, hold_s: 30, side: 'upper', note: null, window: { hours: 8 } })
    expect('metric' in values).toBe(false)
  })

  it('that knows what is still missing, and takes zero for a value', () => {
    expect(missingFields(fields, { side: 'upper', limit: 0 })).toEqual(['metric'])
    expect(missingFields(fields, { side: 'upper', limit: '', metric: 'level_m' })).toEqual(['limit'])
  })
})

it('what is typed comes out as numbers, and an emptied field as nothing', async () => {
  const form = mount(SchemaForm, { props: { fields: readFields(SCHEMA), modelValue: { limit: 1 } } })
  await form.find('[name=limit]').setValue('2.5')
  expect(form.emitted('update:modelValue')!.at(-1)).toEqual([{ limit: 2.5 }])
  await form.find('[name=limit]').setValue('')
  expect(form.emitted('update:modelValue')!.at(-1)).toEqual([{ limit: undefined }])
})

it('descriptions in two languages give the reader his half', () => {
  expect(pickHalf('alarm beyond this value / 限值', true)).toBe('限值')
  expect(pickHalf('alarm beyond this value / 限值', false)).toBe('alarm beyond this value')
  expect(pickHalf('开启孔数', false)).toBe('开启孔数')
})
