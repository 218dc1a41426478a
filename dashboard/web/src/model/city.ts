import { shallowReactive, triggerRef, shallowRef, type ShallowRef } from 'vue'
import type { Command } from '@/api/things'
import type { Device, Incident, LiveMessage, Staff, Summary } from '@/api/types'

/** What the page knows of the city. The maps are replaced in place; `*Version` says that they changed. */
export interface City {
  incidents: ShallowRef<Map<string, Incident>>
  devices: ShallowRef<Map<string, Device>>
  staff: ShallowRef<Map<string, Staff>>
  /** What the socket said of commands since the page was opened. */
  commands: ShallowRef<Map<string, Command>>
  facts: { summary: Summary | null; degradedSince: string | null; loaded: boolean; clockOffsetMs: number }
}

export function createCity(): City {
  return {
    incidents: shallowRef(new Map<string, Incident>()),
    devices: shallowRef(new Map<string, Device>()),
    staff: shallowRef(new Map<string, Staff>()),
    commands: shallowRef(new Map<string, Command>()),
    facts: shallowReactive({ summary: null, degradedSince: null, loaded: false, clockOffsetMs: 0 }),
  }
}

export type Changed = { incidents: Set<string>; devices: boolean; staff: boolean; commands: boolean; snapshot: boolean }

function merge<T extends { id: string }>(known: Map<string, T>, parts: (Partial<T> & { id: string })[]): boolean {
  let changed = false
  for (const part of parts) {
    const old = known.get(part.id)
    if (!old) continue
    known.set(part.id, { ...old, ...part })
    changed = true
  }
  return changed
}

function put<T>(known: Map<string, T>, id: string, data: T | null): void {
  if (data) known.set(id, data)
  else known.delete(id)
}

function putIncident(known: Map<string, Incident>, id: string, data: Incident | null): void {
  const old = known.get(id)
  // A list answer and a delta may cross: the newer version wins.
  if (data && old && data.version < old.version) return
  put(known, id, data)
}

/** Takes a burst of messages in order; watchers run once. `nowMs` is this machine's clock. */
export function applyMessages(city: City, messages: LiveMessage[], nowMs: number): Changed {
  const changed: Changed = { incidents: new Set(), devices: false, staff: false, commands: false, snapshot: false }
  for (const message of messages) applyOne(city, message, nowMs, changed)
  if (changed.incidents.size || changed.snapshot) triggerRef(city.incidents)
  if (changed.devices) triggerRef(city.devices)
  if (changed.staff) triggerRef(city.staff)
  if (changed.commands) triggerRef(city.commands)
  return changed
}

function applyOne(city: City, message: LiveMessage, nowMs: number, changed: Changed): void {
  const { facts } = city
  switch (message.type) {
    case 'snapshot':
      city.incidents.value = new Map(message.incidents.map((one) => [one.id, one]))
      city.devices.value = new Map(message.devices.map((one) => [one.id, one]))
      city.staff.value = new Map(message.staff.map((one) => [one.id, one]))
      city.commands.value = new Map((message.commands ?? []).map((one) => [one.id, one]))
      facts.summary = message.summary
      facts.degradedSince = null
      facts.loaded = true
      facts.clockOffsetMs = Date.parse(message.server_at) - nowMs
      changed.snapshot = changed.devices = changed.staff = changed.commands = true
      return
    case 'delta':
      for (const change of message.changes) {
        if (change.kind === 'incident') {
          putIncident(city.incidents.value, change.id, change.data)
          changed.incidents.add(change.id)
          noteClosure(facts, change.data)
        } else if (change.kind === 'user') {
          put(city.staff.value, change.id, change.data)
          changed.staff = true
        } else if (change.kind === 'command') {
          put(city.commands.value, change.id, change.data)
          changed.commands = true
        } else if (change.kind === 'device' || change.kind === 'camera') {
          put(city.devices.value, change.id, change.data)
          changed.devices = true
        }
      }
      facts.degradedSince = null
      return
    case 'live':
      if (message.devices && merge(city.devices.value, message.devices)) changed.devices = true
      if (message.staff && merge(city.staff.value, message.staff)) changed.staff = true
      return
    case 'ping':
      facts.clockOffsetMs = Date.parse(message.at) - nowMs
      facts.degradedSince = message.degraded_since ?? null
      return
    case 'degraded':
      facts.degradedSince = message.since
  }
}

function noteClosure(facts: City['facts'], data: Incident | null): void {
  if (!data?.ended_at || !facts.summary) return
  if ((facts.summary.last_closed_at ?? '') < data.ended_at) {
    facts.summary = { ...facts.summary, last_closed_at: data.ended_at }
  }
}
