"""Runs flows through lfx: a line of JSON in, a line of JSON out.

In: {flow, input, input_type, tweaks, wanted, base_url}. Out: {outputs, nodes, order, error, failed, cpu_ms}.
`wanted` is `chat` for the outputs of a chat, or `debug` for those of all nodes; `nodes` holds what every node gave, by
output, each with its type.

What would go to DuckDuckGo, Google and arXiv goes to the address given as the argument. Beside that, one option of pandas
is set.
"""

import asyncio
import functools
import json
import math
import os
import sys
import time
import urllib.request

# Components print.
answers_to = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import pandas
import requests
from fastapi.encoders import jsonable_encoder
from lfx.graph import Graph
from lfx.processing.process import process_tweaks, run_graph_internal
from lfx.schema.data import Data
from lfx.schema.dataframe import DataFrame
from lfx.schema.message import Message
from lfx.schema.schema import InputValueRequest

PAGES = sys.argv[1]
if "--knowledge" in sys.argv:
    import knowledge

    knowledge.install(sys.argv[sys.argv.index("--knowledge") + 1])
get = requests.get


def nearby(url, *args, **kwargs):
    for far in ("https://html.duckduckgo.com", "https://news.google.com"):
        url = url.replace(far, PAGES)
    return get(url, *args, **kwargs)


requests.get = nearby

open_url = urllib.request.OpenerDirector.open


def open_nearby(self, url, *args, **kwargs):
    return open_url(self, url.replace("http://export.arxiv.org", PAGES), *args, **kwargs)


urllib.request.OpenerDirector.open = open_nearby
# A table that prints itself sets this and puts it back, so tables that are printed side by side cut one another's cells.
pandas.set_option("display.max_colwidth", None)

if "--keep-classes" in sys.argv:
    # Making a component's class from its code is half of what a flow costs.
    from lfx.custom.custom_component import base_component
    from lfx.interface.initialize import loading

    make = loading.eval_custom_component_code
    keep = functools.cache(lambda code, class_name=None: make(code, class_name=class_name))
    loading.eval_custom_component_code = base_component.eval_custom_component_code = keep

order, failed, nodes = [], [], {}
build = Graph.build_vertex


async def build_vertex(self, vertex_id, **options):
    order.append(vertex_id)
    try:
        built = await build(self, vertex_id, **options)
        # Now: a chat output changes the message that it is given.
        nodes[vertex_id] = values_of(built.vertex)
        return built
    except Exception:
        failed.append(vertex_id)
        raise


Graph.build_vertex = build_vertex


def text_of(result):
    for kind in ("text", "data"):
        value = getattr(result, kind, None)
        if value is not None:
            return value
    return str(result)


def typed(value):
    """What a component gave, as [type, value]."""
    if isinstance(value, Message):
        said = {"text": value.text, "sender": value.sender, "sender_name": value.sender_name, "files": value.files}
        return ["message", jsonable_encoder(said)]
    if isinstance(value, DataFrame):
        return ["table", json.loads(value.to_json(orient="records"))]
    if isinstance(value, Data):
        return ["data", jsonable_encoder(value.data)]
    return ["json", jsonable_encoder(value)]


# What lfx adds of its own to a component at the end of a flow.
TOOLSET = "component_as_tool"


def values_of(vertex):
    results = vertex.results if isinstance(vertex.results, dict) and vertex.results else None
    if results is None:
        results = vertex.result.results if vertex.result else None
    return {name: safely(value) for name, value in results.items() if name != TOOLSET} if isinstance(results, dict) else {}


def finite(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def safely(value):
    try:
        return finite(typed(value))
    except (ValueError, TypeError, RecursionError) as error:
        return ["python", type(value).__name__ + ": " + str(error)[:100]]


async def run(case):
    os.environ["OPENAI_BASE_URL"] = case["base_url"]
    flow = case["flow"]
    flow_id = flow.get("id") or "flow"
    order.clear()
    failed.clear()
    nodes.clear()
    began = time.process_time()
    answer = {}
    try:
        data = process_tweaks(flow["data"], case["tweaks"] or {}, stream=False)
        graph = Graph.from_payload(data, flow_id=flow_id, flow_name=flow.get("name"), user_id=flow_id)
        if case["wanted"] == "chat":
            graph.prepare()
        asked = InputValueRequest(input_value=case["input"], type=case["input_type"], components=[])
        runs, _ = await run_graph_internal(graph, flow_id, inputs=[asked], outputs=outputs_of(graph, case["wanted"]))
        answer["outputs"] = {}
        for output in runs[0].outputs:
            if output is not None:
                values = [text_of(value) for value in output.results.values()]
                answer["outputs"][output.component_id] = values[0] if len(values) == 1 else values
    except Exception as error:  # what a user would see
        answer["error"] = str(error)
    answer["cpu_ms"] = (time.process_time() - began) * 1000
    answer["order"], answer["failed"] = order, failed
    if case["wanted"] != "chat":
        answer.pop("outputs", None)
        answer["nodes"] = nodes
    return answer


def outputs_of(graph, wanted):
    if wanted == "chat":
        return [vertex.id for vertex in graph.vertices if vertex.is_output and "chat" in vertex.id.lower()]
    return [vertex.id for vertex in graph.vertices]


async def main():
    # One loop for all: clients are kept with it.
    for line in sys.stdin:
        json.dump(await run(json.loads(line)), answers_to)
        answers_to.write("\n")
        answers_to.flush()


asyncio.run(main())
