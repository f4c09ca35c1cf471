"""Runs flows through lfx: reads a list of {flow, input, base_url}, writes a list of {outputs, error, cpu_ms}.

What would go to DuckDuckGo, Google and arXiv goes to the address given as the argument. Beside that, one option of pandas
is set.
"""

import asyncio
import json
import os
import sys
import time
import urllib.request

# Components print.
answers_to = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import pandas
import requests
from lfx.graph import Graph
from lfx.processing.process import run_graph_internal
from lfx.schema.schema import InputValueRequest

PAGES = sys.argv[1]
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


def text_of(result):
    for kind in ("text", "data"):
        value = getattr(result, kind, None)
        if value is not None:
            return value
    return str(result)


async def run(case):
    os.environ["OPENAI_BASE_URL"] = case["base_url"]
    flow = case["flow"]
    flow_id = flow.get("id") or "flow"
    began = time.process_time()
    try:
        graph = Graph.from_payload(flow["data"], flow_id=flow_id, flow_name=flow.get("name"), user_id=flow_id)
        graph.prepare()
        asked = InputValueRequest(input_value=case["input"], type="chat", components=[])
        runs, _ = await run_graph_internal(graph, flow_id, inputs=[asked], outputs=outputs_of(graph))
        outputs = {}
        for output in runs[0].outputs:
            if output is not None:
                values = [text_of(value) for value in output.results.values()]
                outputs[output.component_id] = values[0] if len(values) == 1 else values
        return {"outputs": outputs, "cpu_ms": (time.process_time() - began) * 1000}
    except Exception as error:  # what a user would see
        return {"error": str(error), "cpu_ms": (time.process_time() - began) * 1000}


def outputs_of(graph):
    return [vertex.id for vertex in graph.vertices if vertex.is_output and "chat" in vertex.id.lower()]


async def main():
    answers = [await run(case) for case in json.load(sys.stdin)]
    json.dump(answers, answers_to)
    answers_to.flush()


asyncio.run(main())
