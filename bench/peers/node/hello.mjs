// The task that every queue runs.

import { now } from './measure.mjs'

const render = name => `Hello, ${name}! How can I help you today?`

/** The text; with the times that only the task and its submitter know, where the payload has one. */
export function hello ({ name, sent }) {
  const text = render(name)
  return sent === undefined ? { text } : { text, sent, started: now() }
}
