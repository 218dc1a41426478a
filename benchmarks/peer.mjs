// The peer of `gridwarden bench ingest`: mqtt.js and pg, the ordinary way in a Node program (and inside Node-RED).
// single: a message is acknowledged after its rows are committed, one by one: the same guarantee as ours.
// batched: acknowledged at once, rows stored in batches of a thousand: what is in memory at a crash is lost.
import { createRequire } from 'node:module'
const require = createRequire(process.env.PEER_MODULES + '/')
const mqtt = require('mqtt')
const pg = require('pg')

const { way, count, url, user, password, clientId, filter, database } = JSON.parse(process.argv[2])
const pool = new pg.Pool({ connectionString: database, max: way === 'single' ? 1 : 4 })
const ids = new Map((await pool.query('SELECT code, id FROM device')).rows.map((row) => [row.code, row.id]))
const METRICS = ['level_m', 'flow_m3_s', 'ph']

// One statement, one round trip, one commit: the quickest form of it.
const STORE = {
  name: 'store',
  text: `WITH taken AS (
           INSERT INTO device_message (device_id, message_id, topic_kind, received_at)
           SELECT m.device, m.id, 'telemetry', m.received FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])
             AS m (device, id, received) ON CONFLICT DO NOTHING)
         INSERT INTO reading (device_id, metric, value, measured_at, received_at)
         SELECT * FROM unnest($4::uuid[], $5::text[], $6::float8[], $7::timestamptz[], $8::timestamptz[])`,
}

function addRows(columns, topic, payload) {
  const body = JSON.parse(payload)
  const device = ids.get(topic.split('/')[2])
  const now = new Date()
  columns[0].push(device), columns[1].push(body.id), columns[2].push(now)
  for (const metric of METRICS) {
    columns[3].push(device), columns[4].push(metric), columns[5].push(body[metric])
    columns[6].push(body.at), columns[7].push(now)
  }
}
const empty = () => Array.from({ length: 8 }, () => [])

let stored = 0
let columns = empty()
const began = process.hrtime.bigint()
const client = mqtt.connect(url, { username: user, password, clientId, clean: false, protocolVersion: 4, reconnectPeriod: 0 })

async function finish() {
  const took = Number(process.hrtime.bigint() - began) / 1e9
  console.log(JSON.stringify({ took_s: took, cpu_s: process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6 }))
  await client.endAsync()
  await pool.end()
}

async function store(batch) {
  await pool.query({ ...STORE, values: batch })
  stored += batch[0].length
  if (stored === count) await finish()
}

if (way === 'single') {
  client.handleMessage = (packet, acknowledge) => {
    const one = empty()
    addRows(one, packet.topic, packet.payload)
    pool.query({ ...STORE, values: one }).then(() => {
      acknowledge()
      stored += 1
      if (stored === count) setTimeout(finish, 0)
    }, acknowledge)
  }
} else {
  client.on('message', (topic, payload) => {
    addRows(columns, topic, payload)
    if (columns[0].length >= 1000) flush()
  })
  setInterval(flush, 50).unref()
}
function flush() {
  if (columns[0].length === 0) return
  const batch = columns
  columns = empty()
  store(batch).catch((error) => { console.error(error); process.exit(1) })
}
client.on('error', (error) => { console.error(error); process.exit(1) })
client.on('connect', () => client.subscribe(filter, { qos: 1 }))
