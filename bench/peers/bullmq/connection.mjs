// Where BullMQ's Redis is, and the name of its queue, from the environment.

import { Redis } from 'ioredis'

export const queueName = process.env.PEER_QUEUE ?? 'hello'

export const connect = () => new Redis(process.env.PEER_REDIS, { maxRetriesPerRequest: null })
