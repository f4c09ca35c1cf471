"""From what the fleet answers to what Langflow's callers of a graph are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lfx.graph.schema import ResultData, RunOutputs
from lfx.schema.data import Data
from lfx.schema.message import Message

if TYPE_CHECKING:
    from lfx.graph.graph.base import Graph


def message_of(said: dict[str, Any]) -> Message:
    """A message from the form that events and answers have it in."""
    known = {*Message.model_fields, "text"}
    fields = {name: value for name, value in (said.get("data") or said).items() if name in known}
    return Message(**fields)


def value_of(said: Any) -> Any:
    """A result: a message, data, or what is neither."""
    if not isinstance(said, dict) or "text_key" not in said or not isinstance(said.get("data"), dict):
        return said
    if "sender" in said["data"] and "text" in said["data"]:
        return message_of(said)
    return Data(data=said["data"], text_key=said["text_key"])


def wanted(graph: Graph, component: str, outputs: list[str]) -> bool:
    """Whether a caller asked for this component's result: those it names, else what the flow puts out."""
    vertex = graph.get_vertex(component)
    if outputs:
        return vertex.id in outputs or vertex.display_name in outputs
    return vertex.is_output


def run_outputs(graph: Graph, inputs: dict[str, Any], outputs: list[str], answer: dict[str, Any]) -> RunOutputs:
    """What one input of a run gave, of the components that were asked for."""
    known = {vertex.id for vertex in graph.vertices}
    found: list[ResultData | None] = []
    for run in answer.get("outputs") or []:
        for component in run.get("outputs") or []:
            if component["component_id"] in known and wanted(graph, component["component_id"], outputs):
                results = {name: value_of(said) for name, said in (component.get("results") or {}).items()}
                fields = {name: value for name, value in component.items() if name in ResultData.model_fields}
                found.append(ResultData(**{**fields, "results": results}))
    return RunOutputs(inputs=inputs, outputs=found)
