// A graphile-worker process. It keeps no results, so the task stores its own; results of jobs that end
// while a statement is in flight share the next one. PEER_CONCURRENCY, PEER_LOCAL_QUEUE (jobs fetched at
// once), PEER_REFETCH_MS (pause after a fetch that found few) and PEER_COMPLETE_DELAY_MS tune it.

import { Logger, run } from 'graphile-worker'
import pg from 'pg'
import { hello } from './hello.mjs'

const concurrency = Number(process.env.PEER_CONCURRENCY ?? 64)
const local = Number(process.env.PEER_LOCAL_QUEUE ?? 500)
const refetch = Number(process.env.PEER_REFETCH_MS ?? 0)
const delay = Number(process.env.PEER_COMPLETE_DELAY_MS ?? 0)
const results = new pg.Pool({ connectionString: process.env.PEER_POSTGRES, max: 1 })
results.on('error', error => console.error(error))

let waiting = []
let storing = false

/** Resolves when the result is committed. */
function store (job, result) {
  return new Promise((resolve, reject) => {
    waiting.push({ job, result, resolve, reject })
    if (!storing) void drain()
  })
}

async function drain () {
  storing = true
  // Jobs that end in this turn of the event loop belong to the same statement.
  await new Promise(setImmediate)
  while (waiting.length > 0) {
    const batch = waiting
    waiting = []
    try {
      await results.query({
        name: 'store',
        text: `INSERT INTO hello_results (job, result)
               SELECT * FROM unnest($1::bigint[], $2::jsonb[]) ON CONFLICT (job) DO NOTHING`,
        values: [batch.map(({ job }) => job), batch.map(({ result }) => JSON.stringify(result))],
      })
      for (const { resolve } of batch) resolve()
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }
  storing = false
}

await run({
  connectionString: process.env.PEER_POSTGRES,
  concurrency,
  pollInterval: 2000,
  logger: new Logger(() => (level, message) => {
    if (level === 'error') console.error(message)
  }),
  taskList: { hello: (payload, { job }) => store(job.id, hello(payload)) },
  preset: {
    worker: {
      concurrentJobs: concurrency,
      maxPoolSize: 6,
      localQueue: {
        size: local,
        ...(refetch > 0
          ? { refetchDelay: { durationMs: refetch, threshold: local - 1, maxAbortThreshold: local } }
          : {}),
      },
      completeJobBatchDelay: delay,
      failJobBatchDelay: delay,
    },
  },
})
console.log('ready')
