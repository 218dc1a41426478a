/** What changed between two versions of a rule, leaf by leaf. */
export interface Difference {
  path: string
  before: unknown
  after: unknown
}

function isBranch(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function compareValues(before: unknown, after: unknown, path = ''): Difference[] {
  if (isBranch(before) && isBranch(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
    return names.flatMap((name) => compareValues(before[name], after[name], path ? `${path}.${name}` : name))
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }]
}

const MOVING = new Set(['id', 'version', 'changed_at', 'actor', 'reason'])

/** Versions without what changes with every one of them. */
export function compareVersions(before: object, after: object): Difference[] {
  return compareValues(before, after).filter((one) => !MOVING.has(one.path))
}
