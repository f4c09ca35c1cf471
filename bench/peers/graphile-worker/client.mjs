// Drives graphile-worker, whose jobs are removed as they end: a run is finished when its result is stored.

import { Logger, makeWorkerUtils, runMigrations } from 'graphile-worker'
import pg from 'pg'
import { measure } from './measure.mjs'

const connectionString = process.env.PEER_POSTGRES
let pool
let utils

const prepare = async () => {
  pool = new pg.Pool({ connectionString, max: 16 })
  const quiet = new Logger(() => () => {})
  await runMigrations({ pgPool: pool, logger: quiet })
  await pool.query(`CREATE TABLE IF NOT EXISTS hello_results
    (job bigint PRIMARY KEY, result jsonb NOT NULL, stored_at timestamptz NOT NULL DEFAULT clock_timestamp())`)
  utils = await makeWorkerUtils({ pgPool: pool, logger: quiet })
}

await measure('graphile-worker', {
  bulk: 1000,
  bulks: 2,
  async open () {
    await prepare()
    await pool.query('TRUNCATE hello_results')
  },
  one: payload => utils.addJob('hello', payload),
  many: payloads => utils.addJobs(payloads.map(payload => ({ identifier: 'hello', payload }))),
  async finished () {
    const { rows: [row] } = await pool.query(
      'SELECT count(*)::int AS count, extract(epoch FROM max(stored_at))::float8 AS last FROM hello_results'
    )
    // The last jobs are removed a moment after their results are stored; until then they might run again.
    const { rows: [{ left }] } = await pool.query(
      'SELECT EXISTS (SELECT FROM graphile_worker.jobs) AS left'
    )
    return { ...row, left }
  },
  async samples () {
    const { rows } = await pool.query(
      'SELECT result, extract(epoch FROM stored_at)::float8 AS stored FROM hello_results'
    )
    return rows.map(({ result, stored }) => ({ ...result, stored }))
  },
  async close () {
    await utils.release()
    await pool.end()
  },
})
