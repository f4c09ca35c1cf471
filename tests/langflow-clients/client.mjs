// @datastax/langflow-client against a fleet that has the flow ask-model.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { LangflowClient } = await import(pathToFileURL(process.env.LANGFLOW_CLIENT));
const client = new LangflowClient({ baseUrl: process.env.LANGFLOW_URL, apiKey: process.env.LANGFLOW_API_KEY });

const flow = client.flow("ask-model");
const answer = await flow.run("hello", { session_id: "js" });
assert.equal(answer.chatOutputText(), "echo: hello");
assert.equal(answer.sessionId, "js");
const tweaked = await flow.tweak("Chat Input", { sender_name: "Ada" }).run("hi");
assert.equal(tweaked.chatOutputText(), "echo: hi");

const kinds = [];
let text = "";
let result;
for await (const { event, data } of await flow.stream("one two three", { session_id: "js" })) {
  kinds.push(event);
  if (event === "token") text += data.chunk;
  if (event === "end") result = data.result;
}
assert.equal(text, "echo: one two three");
assert.equal(kinds[0], "add_message");
assert.equal(kinds.at(-1), "end");
assert.equal(result.outputs[0].outputs[0].results.message.text, text);
assert.equal(result.session_id, "js");

const file = new File(["some bytes"], "a.txt");
const uploaded = await flow.uploadFile(file);
assert.match(uploaded.filePath, new RegExp(`^${uploaded.flowId}/.*_a\\.txt$`));
const own = await client.files.upload(file);
assert.deepEqual([own.name, own.size], ["a", 10]);
assert.deepEqual((await client.files.list()).map(({ id, path }) => [id, path]), [[own.id, own.path]]);
// Logs are not given out; this client asks for them without its key.
await assert.rejects(client.logs.fetch(), (error) => error.cause.status === 401);
await assert.rejects(client.logs.stream(), (error) => error.cause.status === 401);

await assert.rejects(client.flow("nobody").run("x"), (error) => error.cause.status === 404);
await assert.rejects(flow.run("x", { input_type: "voice" }), (error) => error.cause.status === 422);
console.log("    @datastax/langflow-client: runs, tweaks, streams, files and errors are as it expects");
