// Measures a queue of the Node world: parses the command line, submits, waits for the results and prints
// one line of JSON. What is particular to a queue is handed in as an object:
//
//   open()          connects; removes what earlier rounds left
//   one(payload)    submits one run, by a call of its own
//   many(payloads)  submits many, by the best bulk call there is
//   bulk            how many one bulk call takes, and `bulks` of them run at once
//   finished()      {count, last}: results that are stored, and when the last was, in seconds; with `left`,
//                   jobs wait to be taken off the queue still
//   samples()       [{sent, started, stored}] of all results, in seconds
//   close()

import { createInterface } from 'node:readline'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const DEADLINE_S = 600

/** Seconds since 1970, finer than milliseconds. */
export const now = () => (performance.timeOrigin + performance.now()) / 1000

const usage = name => `Submits work to the ${name} workers, waits for its results and prints one line of JSON.

  node client.mjs throughput --mode batch --runs 20000
  node client.mjs throughput --mode single --concurrency 64 --runs 20000
  node client.mjs latency --rate 10 --seconds 60

  --bulk N, --bulks N   jobs of one bulk call, and how many such calls run at once

At least one \`node worker.mjs\` with the same environment must run. The client says "ready" once it is
connected and begins when it reads a line from its standard input, or at the end of that. When the JSON is
out it waits for standard input to close, so that whoever started it can read what it used.`

const options = {
  mode: { type: 'string', default: 'batch' },
  runs: { type: 'string', default: '20000' },
  concurrency: { type: 'string', default: '64' },
  bulk: { type: 'string' },
  bulks: { type: 'string' },
  rate: { type: 'string', default: '10' },
  seconds: { type: 'string', default: '60' },
  help: { type: 'boolean', default: false },
}

export async function measure (name, queue) {
  const { values, positionals: [part] } = parseArgs({ options, allowPositionals: true })
  const measured = { throughput, latency }[part]
  if (values.help || !measured || !['batch', 'single'].includes(values.mode)) {
    console.log(usage(name))
    process.exit(values.help ? 0 : 2)
  }
  await queue.open()
  const input = createInterface({ input: process.stdin })
  const closed = new Promise(resolve => input.once('close', resolve))
  console.log('ready')
  await Promise.race([closed, new Promise(resolve => input.once('line', resolve))])
  console.log(JSON.stringify(await measured(name, queue, values)))
  await closed
  await queue.close()
}

async function throughput (name, queue, values) {
  const runs = Number(values.runs)
  const begun = now()
  if (values.mode === 'single') await singly(queue, runs, Number(values.concurrency))
  else await inBulk(queue, runs, Number(values.bulk ?? queue.bulk), Number(values.bulks ?? queue.bulks))
  const submitted = now()
  const { last, seen } = await wait(name, queue, runs, begun)
  return { runs, submit_s: submitted - begun, total_s: Math.max(last, submitted) - begun, seen_s: seen - begun }
}

/** So many callers, each with one call in flight. */
async function singly (queue, runs, concurrency) {
  let left = runs
  const caller = async () => {
    while (left-- > 0) await queue.one({ name: 'Ada' })
  }
  await Promise.all(Array.from({ length: concurrency }, caller))
}

async function inBulk (queue, runs, bulk, bulks) {
  let left = runs
  const caller = async () => {
    while (left > 0) {
      const size = Math.min(bulk, left)
      left -= size
      await queue.many(Array.from({ length: size }, () => ({ name: 'Ada' })))
    }
  }
  await Promise.all(Array.from({ length: bulks }, caller))
}

/** Until all results are stored; asks more rarely the more an answer costs. */
async function wait (name, queue, runs, begun) {
  for (;;) {
    const asked = now()
    const { count, last, left = false } = await queue.finished()
    const seen = now()
    if (count === runs && !left) return { last, seen }
    if (count > runs || seen > begun + DEADLINE_S) {
      throw new Error(`${name}: ${count} of ${runs} results after ${Math.round(seen - begun)} s`)
    }
    await sleep(1000 * Math.min(0.5, Math.max(0.02, 20 * (seen - asked))))
  }
}

async function latency (name, queue, values) {
  const rate = Number(values.rate)
  const runs = Math.floor(rate * Number(values.seconds))
  const begun = now()
  const calls = []
  for (let run = 0; run < runs; run++) {
    await sleep(Math.max(0, 1000 * (begun + run / rate - now())))
    calls.push(queue.one({ name: 'Ada', sent: now() }))
  }
  await Promise.all(calls)
  await wait(name, queue, runs, begun)
  const samples = await queue.samples()
  return {
    started: samples.map(({ sent, started }) => started - sent),
    finished: samples.map(({ sent, stored }) => stored - sent),
  }
}
