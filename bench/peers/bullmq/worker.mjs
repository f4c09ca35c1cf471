// A BullMQ worker process. PEER_CONCURRENCY says how many jobs it takes at once.

import { Worker } from 'bullmq'
import { connect, queueName } from './connection.mjs'
import { hello } from './hello.mjs'

const worker = new Worker(queueName, async job => hello(job.data), {
  connection: connect(),
  concurrency: Number(process.env.PEER_CONCURRENCY ?? 100),
})
worker.on('error', error => console.error(error))
await worker.waitUntilReady()
console.log('ready')

process.once('SIGTERM', async () => {
  await worker.close()
  process.exit(0)
})
