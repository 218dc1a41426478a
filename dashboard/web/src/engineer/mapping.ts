/** What the mapping editor begins with, and how the server's words about it are shown. */

export const MAPPING_START = {
  name: '',
  kind: 'smoke_alarm',
  topic: 'telemetry',
  fields: [
    { from: 'data.temp', to: 'temperature_c', as: 'number' },
    { from: 'data.battery', to: 'battery_pct', as: 'number' },
    { from: 'data.state', to: 'status', states: { '0': 'normal', '1': 'alarm' } },
  ],
  time: { path: 'ts', format: 'ms' },
}

export const PAYLOAD_START = { ts: 1763625600000, data: { temp: 21.5, battery: 93, state: 0 } }

export interface Read {
  value: unknown
  problem: string
}

/** JSON of a text box; the position of a mistake stays in what the browser says. */
export function readJson(text: string): Read {
  try {
    return { value: JSON.parse(text) as unknown, problem: '' }
  } catch (failure) {
    return { value: undefined, problem: failure instanceof Error ? failure.message : String(failure) }
  }
}

export interface MappingProblem {
  code: string
  path: string
  element: number | null
  detail: string
}

export function readProblem(problem: unknown): MappingProblem {
  if (typeof problem === 'string') return { code: '', path: '', element: null, detail: problem }
  const { code, path, element, detail } = (problem ?? {}) as Record<string, unknown>
  return {
    code: typeof code === 'string' ? code : '',
    path: typeof path === 'string' ? path : '',
    element: typeof element === 'number' ? element : null,
    detail: typeof detail === 'string' ? detail : '',
  }
}
