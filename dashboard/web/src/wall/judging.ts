/** Judging what cameras found, on the wall. */
import { Judging } from '@/finding/judging'
import { client } from './desk'

export const judging = new Judging(client)
