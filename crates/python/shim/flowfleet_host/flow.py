"""One run of a flow by lfx: the graph, its events, and its outputs as Langflow's API and as the native engine give them."""

import asyncio
import hashlib
import importlib
import json
import os
import time
import uuid

from . import child, memory

# Characters of a node's text that its event shows.
PREVIEW = 200
# Statuses of an HTTP answer after which a later try may succeed.
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# What providers' clients raise when a later try may succeed and no status says so.
PASSING_NAMES = {"APIConnectionError", "APITimeoutError", "ConnectError", "ReadTimeout", "ConnectTimeout", "PoolTimeout"}
# Loaded before the first fork where they are installed.
HEAVY = (
    "anyio._backends._asyncio",
    "json_repair",
    "langchain_anthropic",
    "langchain_openai",
    "lfx.processing.process",
    "openai.pagination",
    "openai.resources",
    "pandas",
)


def preload() -> dict:
    """Everything that is the same for all runs. Leaves no thread and no connection behind."""
    import importlib.metadata as metadata

    from lfx.log.logger import configure
    from lfx.preload import prewarm_core_imports

    configure(log_level="CRITICAL", disable=True)
    prewarm_core_imports(freeze=False)
    for name in HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    from lfx.utils.flow_validation import ensure_component_hash_lookups_loaded

    asyncio.run(ensure_component_hash_lookups_loaded())
    register_variables()
    memory.install()
    watch_nodes()
    keep_released_classes()
    return {"lfx": metadata.version("lfx")}


def register_variables() -> None:
    """Components that ask the variable service get the run's variables; lfx registers none by itself."""
    from lfx.services.deps import get_variable_service
    from lfx.services.manager import get_service_manager
    from lfx.services.schema import ServiceType
    from lfx.services.variable.service import VariableService

    if get_variable_service() is None:
        manager = get_service_manager()
        manager.register_service_class(ServiceType.VARIABLE_SERVICE, VariableService, override=False)


def watch_nodes() -> None:
    """Tells of each node that starts and ends: lfx itself tells only its own editor."""
    from lfx.graph.graph.base import Graph

    build = Graph.build_vertex

    async def build_vertex(self, vertex_id, **options):
        run = child.current.get()
        if run is None:
            return await build(self, vertex_id, **options)
        began = time.monotonic()
        # Each node is built in a task of its own.
        child.node.set(vertex_id)
        run.tell("node_started", node=vertex_id)
        try:
            built = await build(self, vertex_id, **options)
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task these would end the loop, and so the runs of others.
            error = RuntimeError(f"a component called sys.exit({getattr(error, 'code', None)!r})")
            error_node(error, vertex_id)
            run.tell("node_failed", node=vertex_id, message=told(error))
            raise error from None
        except Exception as error:
            error_node(error, vertex_id)
            run.tell("node_failed", node=vertex_id, message=told(error)[: child.MESSAGE])
            raise
        run.tell(
            "node_finished",
            node=vertex_id,
            elapsed_s=round(time.monotonic() - began, 6),
            preview=preview(built.vertex),
            usage=usage_of(built.vertex),
        )
        return built

    Graph.build_vertex = build_vertex


def keep_released_classes() -> None:
    """lfx makes the class of a component from its code for every node of every run, which is half of what a run costs.
    The class of released code is made once a process; a component of somebody's own is made anew, as its author may
    expect."""
    import lfx
    from lfx.custom.custom_component import base_component
    from lfx.interface.initialize import loading

    with open(os.path.join(os.path.dirname(lfx.__file__), "_assets", "component_index.json"), encoding="utf-8") as file:
        entries = json.load(file)["entries"]
    released: dict[str, str] = {}
    for _, components in entries:
        for name, component in components.items():
            code = component.get("template", {}).get("code", {}).get("value")
            if code:
                released[hashlib.sha256(code.encode()).hexdigest()] = name
    make, made = loading.eval_custom_component_code, {}

    def class_of(code: str, class_name: str | None = None):
        digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
        if digest not in released:
            return make(code, class_name=class_name)
        key = (digest, class_name)
        if key not in made:
            made[key] = make(code, class_name=class_name)
        return made[key]

    loading.eval_custom_component_code = class_of
    base_component.eval_custom_component_code = class_of


def error_node(error: BaseException, vertex_id: str) -> None:
    """The innermost node that failed is the one to name."""
    if getattr(error, "flowfleet_node", None) is None:
        try:
            error.flowfleet_node = vertex_id
        except AttributeError:
            pass


async def execute(run: "child.Run") -> dict:
    from fastapi.encoders import jsonable_encoder
    from lfx.graph.graph.base import Graph
    from lfx.processing.process import process_tweaks, run_graph_internal
    from lfx.schema.legacy_render import project_payload_to_v1
    from lfx.schema.schema import InputValueRequest
    from lfx.services.variable.request_scope import activate_request_variables

    call = run.call
    run.memory = memory.Memory(run)
    activate_request_variables(call["variables"])
    flow_id = memory.uuid_of(call["flow_id"] or call["run"])
    data = process_tweaks(call["flow"].get("data") or call["flow"], call["tweaks"] or {}, stream=call["stream"])
    graph = Graph.from_payload(
        data,
        flow_id=flow_id,
        flow_name=call["flow"].get("name"),
        user_id=USER,
        context={"request_variables": dict(call["variables"])},
    )
    graph.set_run_id(memory.uuid_of(run.id))
    inputs = None
    if call["input_value"] is not None:
        inputs = [InputValueRequest(components=[], input_value=call["input_value"], type=call["input_type"])]
    wanted = outputs_of(graph, call)
    results, session_id = await run_graph_internal(
        graph,
        flow_id,
        stream=call["stream"],
        session_id=call["session_id"],
        inputs=inputs,
        outputs=wanted,
        event_manager=Events(run),
    )
    answer = project_payload_to_v1(jsonable_encoder(results))
    chosen = [vertex for vertex in graph.vertices if vertex.built and is_chosen(vertex, wanted)]
    return {
        "outputs": [[vertex.id, plain_of(vertex)] for vertex in chosen],
        "langflow": answer,
        "session_id": session_id,
    }


# lfx keeps chat memory only for flows and users whose ids are UUIDs; here nothing belongs to a user.
USER = "00000000-0000-4000-8000-000000000000"


def outputs_of(graph, call: dict) -> list[str]:
    """Which components' results are asked for, as Langflow's API chooses them."""
    if call["output_component"]:
        return [call["output_component"]]
    kind = call["output_type"]
    if kind == "terminal":
        return graph.get_terminal_nodes()
    return [
        vertex.id
        for vertex in graph.vertices
        if kind == "debug" or (vertex.is_output and (kind == "any" or kind in vertex.id.lower()))
    ]


def is_chosen(vertex, wanted: list[str]) -> bool:
    if not wanted:
        return vertex.is_output
    return vertex.id in wanted or vertex.display_name in wanted


def plain_of(vertex):
    """A node's only value, or its values by output."""
    results = values_of(vertex)
    values = {name: plain(value) for name, value in results.items()}
    return next(iter(values.values())) if len(values) == 1 else values or None


def values_of(vertex) -> dict:
    """By output. The result that lfx shows of a node inside the flow has none."""
    if isinstance(vertex.results, dict) and vertex.results:
        return vertex.results
    results = vertex.result.results if vertex.result else None
    return results if isinstance(results, dict) else {}


def plain(value):
    from fastapi.encoders import jsonable_encoder
    from lfx.schema.data import Data
    from lfx.schema.dataframe import DataFrame
    from lfx.schema.message import Message
    from lfx.serialization.serialization import serialize

    if isinstance(value, Message):
        return value.text if isinstance(value.text, str) else str(value.text or "")
    if isinstance(value, DataFrame):
        return json.loads(value.to_json(orient="records"))
    if isinstance(value, Data):
        value = value.data
    try:
        return jsonable_encoder(value)
    except (ValueError, TypeError, RecursionError):
        return serialize(value, to_str=True)


def preview(vertex) -> str:
    try:
        text = plain(next(iter(values_of(vertex).values()), ""))
        return (text if isinstance(text, str) else json.dumps(text, default=str))[:PREVIEW]
    except Exception:
        return ""


def usage_of(vertex) -> dict | None:
    """Tokens of a node. A chat output repeats those of the model before it."""
    used = getattr(vertex.result, "token_usage", None) if vertex.result else None
    if used is None or vertex.is_output:
        return None
    return {"input_tokens": used.input_tokens or 0, "output_tokens": used.output_tokens or 0}


class Events:
    """What components announce while they run. Unknown announcements are none of ours."""

    def __init__(self, run: "child.Run") -> None:
        self.run = run
        self.nodes: dict[str, str] = {}

    def on_message(self, *, data) -> None:
        source = (data.get("properties") or {}).get("source") or {}
        if data.get("id") and source.get("id"):
            self.nodes[str(data["id"])] = source["id"]

    def on_token(self, *, data) -> None:
        chunk = data.get("chunk")
        if chunk:
            self.run.tell("token", node=self.nodes.get(str(data.get("id")), ""), text=str(chunk))

    def __getattr__(self, name: str):
        if name.startswith("on_"):
            return lambda *, data=None: None
        raise AttributeError(name)


def told(error: BaseException) -> str:
    message = getattr(error, "message", None)
    text = message if isinstance(message, str) and message else str(error)
    return text or type(error).__name__


def causes(error: BaseException):
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def explain(error: BaseException) -> dict:
    """How a run failed: the message, the node, and whether a later try may succeed."""
    from lfx.exceptions.tweaks import TweakRefusedError

    chain = list(causes(error))
    node = next((found for cause in chain if (found := getattr(cause, "flowfleet_node", None))), None)
    # A process that is out of memory is so again.
    retryable = any(
        getattr(cause, "status_code", None) in PASSING or type(cause).__name__ in PASSING_NAMES for cause in chain
    )
    if any(isinstance(cause, TweakRefusedError) for cause in chain):
        code = "TWEAKS_REFUSED"
    elif any(isinstance(cause, MemoryError) for cause in chain):
        code = "python_memory"
    elif node:
        code = "python_component_failed"
    else:
        code = "python_flow_failed"
    # What the node said itself: lfx wraps it once a layer.
    text = told(next((cause for cause in chain if getattr(cause, "flowfleet_node", None)), error))
    return {"code": code, "message": text[: child.MESSAGE], "node": node, "retryable": retryable}
