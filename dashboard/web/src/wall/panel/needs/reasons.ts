/** Reasons that can be counted, by action, as the server names them; asked once. */
import { shallowRef } from 'vue'
import type { Client } from '@/api/client'

const known = shallowRef<Record<string, string[]>>({})

export function codesFor(action: string): string[] {
  return known.value[action] ?? []
}

export async function readReasonCodes(client: Client): Promise<void> {
  if (Object.keys(known.value).length) return
  try {
    known.value = await client.get<Record<string, string[]>>('/reason-codes')
  } catch {
    // Words alone are a reason too.
  }
}
