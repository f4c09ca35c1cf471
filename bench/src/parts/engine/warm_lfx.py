"""Runs a flow many times in one warm process of lfx, in the two ways there are, and prints what a run costs.

    warm_lfx.py FLOW.json RUNS

`copied` is what `lfx serve` does after a request has been parsed: the graph that was loaded once is copied for each
run. `built` builds it anew from the parsed document. One graph cannot serve twice: its second run answers what the
first one did, without executing anything. Neither way pays for HTTP or for starting Python.
One line of JSON a way: CPU and wall seconds of all runs, and the text of the last.
"""

import asyncio
import json
import os
import resource
import sys
import time
from copy import deepcopy


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def text_of(outputs) -> str:
    """The message of the flow's chat output; raises if there is none, so that a run that did nothing shows."""
    found = [
        result.results["message"].text
        for run in outputs
        for result in run.outputs
        if result and "message" in (result.results or {})
    ]
    return found[-1]


async def main(path: str, runs: int, answers) -> None:
    from lfx.graph.graph.base import Graph
    from lfx.load import aload_flow_from_json
    from lfx.processing.process import run_graph_internal
    from lfx.schema.schema import InputValueRequest

    graph = await aload_flow_from_json(path, log_level="critical")
    with open(path, encoding="utf-8") as file:
        payload = json.load(file)["data"]

    async def run(number: int, *, copied: bool) -> str:
        one = deepcopy(graph) if copied else Graph.from_payload(deepcopy(payload))
        outputs, _ = await run_graph_internal(
            one,
            "bench",
            session_id=f"bench-{number}",
            inputs=[InputValueRequest(components=[], input_value=f"hello {number}", type="chat")],
            outputs=[vertex.id for vertex in one.vertices if vertex.is_output],
        )
        return text_of(outputs)

    for way in ("copied", "built"):
        for number in range(20):
            await run(number, copied=way == "copied")
        began, before = time.monotonic(), cpu()
        for number in range(runs):
            last = await run(number, copied=way == "copied")
            if f"hello {number}" not in last:
                raise SystemExit(f"run {number} answered {last!r}")
        wall_s, cpu_s = time.monotonic() - began, cpu() - before
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        line = {"way": way, "runs": runs, "cpu_s": cpu_s, "wall_s": wall_s, "rss_bytes": rss, "last": last}
        print(json.dumps(line), file=answers, flush=True)


if __name__ == "__main__":
    # Components print: what they say goes to standard error, the answers alone to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), answers))
