"""The executor: whole flows go to the fleet, everything else stays in Langflow's process.

Langflow asks its executor for two things. ``Graph.arun`` runs a whole flow and takes its outputs: that is a run of the
fleet. Whoever iterates over the vertices of a graph (the body of a Loop, ``lfx run``) wants vertices of this process.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lfx.execution.backends.in_process import InProcessExecutor
from lfx.execution.executor import Executor
from lfx.execution.types import RunComplete, StepResult
from lfx.log.logger import logger

from flowfleet_langflow.fleet import Call, Fleet, FleetError
from flowfleet_langflow.results import message_of, run_outputs
from flowfleet_langflow.variables import variables_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lfx.execution.types import Unit
    from lfx.graph.graph.base import Graph
    from lfx.graph.schema import RunOutputs

NOT_FOUND = 404


def is_whole_flow(unit: Unit) -> bool:
    """Whether a unit is a flow that can be handed away: its document is known and nothing of it waits here."""
    graph = unit.graph
    document = getattr(graph, "raw_graph_data", None) or {}
    return bool(
        unit.runtime_options.get("_use_arun_legacy")
        and document.get("nodes")
        and getattr(graph, "flow_id", None)
        and not getattr(graph, "checkpointing_enabled", False)
    )


class FlowfleetExecutor(Executor):
    """Runs whole flows on a fleet. ``FLOWFLEET_URL`` and ``FLOWFLEET_API_KEY`` say which."""

    kind = "flowfleet"

    def __init__(self, fleet: Fleet | None = None) -> None:
        self._fleet = fleet or Fleet()
        self._here = InProcessExecutor()

    async def execute(self, unit: Unit) -> AsyncIterator[StepResult | RunComplete]:
        if is_whole_flow(unit):
            try:
                name = await self._stored(unit.graph)
            except FleetError as error:
                if not error.is_unsupported:
                    raise
                await logger.awarning(f"Flow {unit.graph.flow_id} runs in this process: {error}")
            else:
                yield RunComplete(outputs=[outputs async for outputs in self._runs(unit, name)])
                return
        async with aclosing(self._here.execute(unit)) as steps:
            async for step in steps:
                yield step

    async def _stored(self, graph: Graph, *, again: bool = False) -> str:
        flow_id = str(graph.flow_id)
        data = {"nodes": graph.raw_graph_data["nodes"], "edges": graph.raw_graph_data["edges"]}
        document = {"id": flow_id, "name": graph.flow_name or flow_id, "data": data}
        return await self._fleet.put(flow_id, document, again=again)

    async def _runs(self, unit: Unit, name: str) -> AsyncIterator[RunOutputs]:
        """One run of the fleet for each input."""
        options = unit.runtime_options
        inputs = unit.inputs if isinstance(unit.inputs, list) else [unit.inputs]
        components, types = options.get("inputs_components") or [], options.get("types") or []
        for index, given in enumerate(inputs or [{}]):
            aimed = components[index] if index < len(components) else []
            kind = types[index] if index < len(types) else "chat"
            call = Call(name, body_of(unit.graph, given, aimed, kind, options), await variables_of(unit.graph))
            try:
                answer = await self._run(unit.graph, call, options.get("event_manager"))
            except FleetError as error:
                if error.status != NOT_FOUND:
                    raise
                # Somebody deleted it.
                call.flow = await self._stored(unit.graph, again=True)
                answer = await self._run(unit.graph, call, options.get("event_manager"))
            yield run_outputs(unit.graph, given, options.get("outputs") or [], answer)

    async def _run(self, graph: Graph, call: Call, event_manager: Any) -> dict[str, Any]:
        messages: dict[str, dict[str, Any]] = {}
        async with self._fleet.run(call) as events:
            async for event in events:
                kind, data = event["event"], event["data"]
                if kind == "end":
                    await store(graph, list(messages.values()))
                    return data["result"]
                if kind == "error":
                    raise ValueError(data.get("error") or data.get("text") or "the run failed")
                if kind == "add_message" and data.get("id"):
                    messages[data["id"]] = data
                tell(event_manager, kind, data)
        msg = "the fleet ended the stream before the run"
        raise RuntimeError(msg)


def body_of(
    graph: Graph, given: dict[str, Any], aimed: list[str], kind: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The body of a run. Every node's result is asked for: which ones are wanted is known here."""
    session = options.get("session_id") or getattr(graph, "session_id", None)
    body: dict[str, Any] = {"output_type": "debug", "input_type": kind or "any", "session_id": session or None}
    value = given.get("input_value")
    if value is None:
        return body
    if aimed:
        body["tweaks"] = {component: {"input_value": value} for component in aimed}
    else:
        body["input_value"] = value
    return body


def tell(event_manager: Any, kind: str, data: dict[str, Any]) -> None:
    """Passes an event on to whoever follows the run in Langflow."""
    if event_manager is not None and kind == "add_message":
        event_manager.on_message(data=data)
    elif event_manager is not None and kind == "token":
        event_manager.on_token(data=data)


async def store(graph: Graph, messages: list[dict[str, Any]]) -> None:
    """Keeps the messages of a run in Langflow's own history, where its UI shows a session."""
    from lfx.memory import astore_message

    if not getattr(graph, "persist_messages", True):
        return
    for said in messages:
        message = message_of(said)
        if not (message.session_id and message.sender and message.sender_name):
            continue
        try:
            await astore_message(message, flow_id=graph.flow_id, run_id=graph.run_id)
        except Exception as error:  # noqa: BLE001 - the run itself went well
            await logger.awarning(f"A message of flow {graph.flow_id} is not in the history: {error}")
