"""Chat memory of a run: what the supervisor sent with it, and what the run itself stores.

lfx without a database keeps no messages. Here its functions answer from the run's own list, and each change is told to
the supervisor, which stores it. Other sessions than the run's start empty.
"""

import copy
import hashlib
import uuid
from datetime import datetime, timezone

from . import child

# Of a message, in the order in which Langflow gives them.
FIELDS = (
    "timestamp",
    "sender",
    "sender_name",
    "session_id",
    "context_id",
    "text",
    "files",
    "error",
    "edit",
    "properties",
    "category",
    "content_blocks",
    "session_metadata",
    "id",
    "flow_id",
    "run_id",
    "duration",
)
ORDERS = ("timestamp", "sender", "sender_name", "session_id", "text")


class Memory:
    def __init__(self, run: "child.Run") -> None:
        self.run = run
        self.given: set[str] = set()
        self.messages: list[dict] = [
            {name: found.get(name) for name in FIELDS} | {"id": str(found.get("id") or uuid.uuid4())}
            for found in run.call["history"]
        ]

    def store(self, message, flow_id, run_id) -> list:
        """Keeps a copy, as a database would, and answers with another."""
        said = jsonable(message)
        said["flow_id"] = str(flow_id) if flow_id else said.get("flow_id")
        said["run_id"] = str(run_id) if run_id else said.get("run_id")
        said["id"] = str(message.id) if message.has_id() else self.identify(message)
        said["session_metadata"] = {"graph_run_id": self.run.id} | (said.get("session_metadata") or {})
        kept = {name: said.get(name) for name in FIELDS}
        known = next((at for at, other in enumerate(self.messages) if other["id"] == kept["id"]), None)
        if known is None:
            self.messages.append(kept)
        else:
            self.messages[known] = kept
        self.run.tell("message", message=kept)
        return [read(kept)]

    def identify(self, message) -> str:
        """The id by which others know this message before it exists: one a run, sender and component."""
        source = message.properties.source.id if message.properties and message.properties.source else None
        made = message_id(self.run.id, message.sender or "", source or child.node.get())
        if made in self.given:
            made = str(uuid.uuid4())
        self.given.add(made)
        return made

    def find(self, **wanted) -> list:
        def fits(message: dict) -> bool:
            names = ("sender", "sender_name", "session_id", "context_id")
            asked = {name: str(wanted[name]) for name in names if wanted.get(name)}
            return not message.get("error") and all(str(message.get(name) or "") == asked[name] for name in asked)

        found = [message for message in self.messages if fits(message)]
        order_by, order = wanted.get("order_by"), wanted.get("order")
        if order_by:
            if order_by not in ORDERS:
                raise ValueError(f"Invalid order_by field: {order_by}")
            # Stable, so that messages of one moment keep the order in which they were stored.
            found.sort(key=lambda message: when(message) if order_by == "timestamp" else str(message.get(order_by)))
            if order == "DESC":
                found.reverse()
        limit = wanted.get("limit")
        return [read(message) for message in (found[:limit] if limit else found)]

    def delete(self, fits) -> None:
        gone = [message for message in self.messages if fits(message)]
        self.messages = [message for message in self.messages if not fits(message)]
        if gone:
            self.run.tell("messages_deleted", ids=[message["id"] for message in gone])


def message_id(run_id: str, sender: str, node: str) -> str:
    digest = hashlib.sha256()
    for part in (run_id, sender, node):
        part = part.encode()
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return str(uuid.UUID(bytes=digest.digest()[:16], version=4))


def when(message: dict) -> float:
    stamp = str(message.get("timestamp") or "")
    for pattern in ("%Y-%m-%d %H:%M:%S.%f %Z", "%Y-%m-%d %H:%M:%S %Z"):
        try:
            return datetime.strptime(stamp, pattern).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            pass
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return 0.0


def read(kept: dict):
    from lfx.schema.message import Message

    return Message(**{name: value for name, value in copy.deepcopy(kept).items() if value is not None})


def jsonable(message) -> dict:
    """Its attributes: the serialised form repeats what it was made from."""
    from fastapi.encoders import jsonable_encoder

    said = {name: getattr(message, name, None) for name in FIELDS if name != "id"}
    if not isinstance(said["text"], str):
        # A stream that nobody has read yet.
        said["text"] = ""
    return jsonable_encoder(said)


def install() -> None:
    """Puts these functions where components find lfx's own."""
    from lfx.memory import stubs

    def mine() -> Memory:
        run = child.current.get()
        if run is None or run.memory is None:
            raise RuntimeError("chat memory is only there while a flow runs")
        return run.memory

    async def astore_message(message, flow_id=None, run_id=None, user_id=None):
        if not message:
            return []
        if not message.session_id or not message.sender or not message.sender_name:
            raise ValueError(
                f"All of session_id, sender, and sender_name must be provided. Session ID: {message.session_id},"
                f" Sender: {message.sender}, Sender Name: {message.sender_name}"
            )
        return mine().store(message, flow_id, run_id)

    async def aadd_messages(messages, flow_id=None, run_id=None, user_id=None):
        messages = messages if isinstance(messages, list) else [messages]
        return [stored for message in messages for stored in await astore_message(message, flow_id, run_id)]

    async def aupdate_messages(messages):
        messages = messages if isinstance(messages, list) else [messages]
        for message in messages:
            if not message.has_id():
                raise ValueError(f"Message without ID cannot be updated: {message}")
        return [mine().store(message, message.flow_id, None)[0] for message in messages]

    async def aget_messages(
        sender=None,
        sender_name=None,
        session_id=None,
        context_id=None,
        order_by="timestamp",
        order="DESC",
        flow_id=None,
        limit=None,
        user_id=None,
    ):
        return mine().find(
            sender=sender,
            sender_name=sender_name,
            session_id=session_id,
            context_id=context_id,
            order_by=order_by,
            order=order,
            limit=limit,
        )

    async def delete_message(id_):
        mine().delete(lambda message: message["id"] == str(id_))

    async def adelete_messages(session_id=None, context_id=None):
        if not session_id and not context_id:
            raise ValueError("Either session_id or context_id must be provided to delete messages.")
        mine().delete(
            lambda message: (not session_id or message["session_id"] == session_id)
            and (not context_id or message["context_id"] == context_id)
        )

    for function in (
        astore_message,
        aadd_messages,
        aupdate_messages,
        aget_messages,
        delete_message,
        adelete_messages,
    ):
        setattr(stubs, function.__name__, function)
