"""Runs flows through lfx: reads a list of {flow, input}, writes a list of {outputs} or {error}."""

import asyncio
import json
import os
import sys

# Components print.
answers_to = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from lfx.graph import Graph
from lfx.processing.process import run_graph_internal
from lfx.schema.schema import InputValueRequest

ID = "00000000-0000-0000-0000-000000000001"


async def run(case):
    flow = case["flow"]
    try:
        graph = Graph.from_payload(flow["data"], flow_id=ID, flow_name=flow["name"], user_id=ID)
        graph.prepare()
        asked = InputValueRequest(input_value=case["input"], type="chat", components=[])
        runs, _ = await run_graph_internal(graph, ID, inputs=[asked], outputs=["ChatOutput-1"])
        texts = {output.component_id: output.results["message"].text for output in runs[0].outputs if output}
        return {"outputs": texts}
    except Exception as error:  # what a user would see
        return {"error": str(error)}


async def main():
    json.dump([await run(case) for case in json.load(sys.stdin)], answers_to)
    answers_to.flush()


asyncio.run(main())
