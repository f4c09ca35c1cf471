// Drives BullMQ. A result is the job's return value, kept in Redis with the job. When it was stored is told by the
// event that Redis writes with it: BullMQ's own `finishedOn` is the worker's clock before it is stored.

import { Queue } from 'bullmq'
import { connect, queueName } from './connection.mjs'
import { measure } from './measure.mjs'

let redis
let queue

/** When jobs were completed, in seconds, by their ids. */
const completions = entries => new Map(entries.flatMap(([at, fields]) => {
  const event = Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, n) => fields.slice(2 * n, 2 * n + 2)))
  return event.event === 'completed' ? [[event.jobId, Number(at.split('-')[0]) / 1000]] : []
}))

await measure('BullMQ', {
  bulk: 500,
  bulks: 4,
  async open () {
    redis = connect()
    queue = new Queue(queueName, { connection: redis })
    await queue.obliterate({ force: true, count: 100_000 })
  },
  one: payload => queue.add('hello', payload),
  many: payloads => queue.addBulk(payloads.map(data => ({ name: 'hello', data }))),
  async finished () {
    const count = await queue.getJobCountByTypes('completed')
    const newest = completions(await redis.xrevrange(queue.toKey('events'), '+', '-', 'COUNT', 100))
    return { count, last: Math.max(0, ...newest.values()) }
  },
  async samples () {
    const stored = completions(await redis.xrange(queue.toKey('events'), '-', '+'))
    const jobs = await queue.getJobs(['completed'], 0, -1)
    return jobs.map(({ id, data, returnvalue: { started } }) => ({
      sent: data.sent,
      started,
      // Redis tells whole milliseconds, the time before a comma: nothing is stored before it has begun.
      stored: Math.max(stored.get(id), started),
    }))
  },
  async close () {
    await queue.close()
    redis.disconnect()
  },
})
