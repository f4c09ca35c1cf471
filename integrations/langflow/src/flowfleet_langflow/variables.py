"""The variables that a flow reads, with their values in this Langflow: the fleet has none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lfx.log.logger import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lfx.graph.graph.base import Graph


def named_by(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Names of variables that fields load their values from, each with its field."""
    waiting = list(document.get("nodes") or [])
    while waiting:
        node = (waiting.pop().get("data") or {}).get("node") or {}
        waiting.extend(((node.get("flow") or {}).get("data") or {}).get("nodes") or [])
        for name, field in (node.get("template") or {}).items():
            if isinstance(field, dict) and field.get("load_from_db") and isinstance(field.get("value"), str):
                if field["value"]:
                    yield field["value"], name


async def variables_of(graph: Graph) -> dict[str, str]:
    """Their values: of the request, else of the user's variables. What neither has, a worker's environment may have."""
    asked = (getattr(graph, "context", None) or {}).get("request_variables") or {}
    found = {str(name): str(value) for name, value in asked.items()}
    missing = {name: field for name, field in named_by(graph.raw_graph_data) if name not in found}
    if missing and getattr(graph, "user_id", None):
        found.update(await _stored(graph, missing))
    return {name: value for name, value in found.items() if name.isascii() and value and "\n" not in value}


async def _stored(graph: Graph, names: dict[str, str]) -> dict[str, str]:
    from lfx.services.deps import get_variable_service, session_scope

    service, found = get_variable_service(), {}
    if service is None:
        return found
    async with session_scope() as session:
        for name, field in names.items():
            try:
                value = await service.get_variable(user_id=graph.user_id, name=name, field=field, session=session)
            except Exception as error:  # noqa: BLE001 - a missing one is the flow's to complain about
                await logger.adebug(f"variable {name} is not stored: {error}")
                continue
            value = getattr(value, "get_secret_value", lambda value=value: value)()
            if isinstance(value, str):
                found[name] = value
    return found
