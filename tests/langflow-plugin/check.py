"""The executor for Langflow against a fleet: what a graph of released lfx gives by it and in its own process.

    check.py FLOW.json      LANGFLOW_EXECUTOR_KIND=flowfleet and FLOWFLEET_URL are set, the plug-in is installed
"""

import asyncio
import json
import os
import pathlib
import sys
import time
import urllib.request

from lfx.events.event_manager import create_stream_tokens_event_manager
from lfx.execution import Coordinator, get_default_coordinator, get_default_registry, set_default_coordinator
from lfx.graph.graph.base import Graph
from lfx.processing.process import run_graph_internal
from lfx.schema.schema import InputValueRequest

URL = os.environ["FLOWFLEET_URL"]
FLOW = "00385b0b-2dd1-472c-9c03-70ad54c85f1e"


def fleet(method, path):
    with urllib.request.urlopen(urllib.request.Request(URL + path, method=method), timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def runs():
    return fleet("GET", "/v1/runs?limit=1000")["items"]


def document(path, change=lambda template: None):
    flow = json.loads(pathlib.Path(path).read_text())
    for node in flow["data"]["nodes"]:
        template = node["data"].get("node", {}).get("template", {})
        if "model" in template:
            template["model"]["value"] = [{"name": "gpt-4o-mini", "provider": "OpenAI"}]
            change(template)
    return flow["data"]


async def run(data, text, event_manager=None, outputs=(), **more):
    graph = Graph.from_payload(json.loads(json.dumps(data)), flow_id=FLOW, flow_name="plug-in", user_id=None)
    given = [InputValueRequest(components=[], input_value=text, type="chat", **more)]
    return await run_graph_internal(
        graph, FLOW, session_id="s", inputs=given, outputs=list(outputs), event_manager=event_manager
    )


def use(kind):
    set_default_coordinator(Coordinator(registry=get_default_registry(), executor_kind=kind))


def seen(outputs):
    """What callers read of a run: of each component its text, the names of its results and how they are shown."""
    return [
        (
            found.component_id,
            found.component_display_name,
            {name: (type(value).__name__, getattr(value, "text", None)) for name, value in found.results.items()},
            {name: getattr(value, "message", None) or value["message"] for name, value in found.outputs.items()},
            [message.message for message in found.messages],
        )
        for output in outputs
        for found in output.outputs
    ]


def found():
    registry = get_default_registry()
    assert registry.has("flowfleet") and registry.has("in-process")
    assert get_default_coordinator()._executor_kind == "flowfleet"  # noqa: SLF001


async def same(data):
    before = len(runs())
    for outputs in ([], ["Chat Output"], ["ChatOutput-yK0AU", "nobody"]):
        use("flowfleet")
        here, session = await run(data, "hello there", outputs=outputs)
        use("in-process")
        there, other = await run(data, "hello there", outputs=outputs)
        assert (seen(here), session) == (seen(there), other), (outputs, seen(here), seen(there))
        assert here[0].inputs == there[0].inputs == {"input_value": "hello there"}
    assert len(runs()) == before + 3, "each was one run of the fleet"


async def streamed(data):
    use("flowfleet")
    queue = asyncio.Queue()
    await run(data, "one two three", event_manager=create_stream_tokens_event_manager(queue))
    events = [json.loads(queue.get_nowait()[1]) for _ in range(queue.qsize())]
    text = "".join(event["data"]["chunk"] for event in events if event["event"] == "token")
    assert text == "echo: one two three", events
    assert {event["event"] for event in events} == {"add_message", "token"}, events
    assert events[0]["data"]["sender"] == "User" and events[-1]["data"]["text"] == text, events


async def refused(path):
    use("flowfleet")
    before = len(runs())

    def edit(template):
        template["code"]["value"] += "\n# mine\n"

    outputs, _ = await run(document(path, edit), "edited")
    assert outputs[0].outputs[0].results["message"].text == "echo: edited", "it ran in this process"
    assert len(runs()) == before

    def nobody(template):
        template["model"]["value"] = [{"name": "m", "provider": "Nobody"}]

    try:
        await run(document(path, nobody), "x")
    except ValueError as error:
        assert "Nobody" in str(error), error
    else:
        raise AssertionError("a run that failed is no answer")


async def forgotten(data):
    use("flowfleet")
    for flow in fleet("GET", "/v1/flows?limit=1000")["items"]:
        fleet("DELETE", f"/v1/flows/{flow['name']}")
    outputs, _ = await run(data, "again")
    assert outputs[0].outputs[0].results["message"].text == "echo: again"


async def left(data):
    use("flowfleet")
    queue = asyncio.Queue()
    task = asyncio.create_task(run(data, "word " * 2000, event_manager=create_stream_tokens_event_manager(queue)))
    while json.loads((await queue.get())[1])["event"] != "token":
        pass
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    deadline = time.monotonic() + 20
    while runs()[0]["state"] != "cancelled":
        assert time.monotonic() < deadline, runs()[0]
        await asyncio.sleep(0.1)


async def main(path):
    found()
    data = document(path)
    await same(data)
    await streamed(data)
    await refused(path)
    await forgotten(data)
    await left(data)
    print("    flowfleet-langflow: lfx's graphs run on the fleet and give what they give in process")


if __name__ == "__main__":
    # What hangs says where.
    asyncio.run(asyncio.wait_for(main(sys.argv[1]), 240))
