"""What lfx's Knowledge component asks of Langflow, as far as it decides nothing: who the user is, and which bases there are.

The texts and vectors lie in lfx's own SQLite store.
"""

import contextlib
import glob
import gzip
import hashlib
import os
import sys
import types
import uuid
from pathlib import Path

from lfx.base.knowledge_bases.backends.sqlite import SQLiteBackend, SQLiteStorageContext
from lfx.services.deps import get_settings_service

BASES = ("docs", "twice")
RANKS = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"


class Record:
    def __init__(self, user_id, name):
        self.id = uuid.uuid5(uuid.NAMESPACE_DNS, name)
        self.user_id, self.name = user_id, name
        self.backend_type, self.backend_config = "sqlite", {}


def install(folder):
    ranks(Path(folder))
    # Looks for a whole Langflow when it is made.
    get_settings_service()
    made = set()

    async def get_by_user_and_name(user_id, name):
        return Record(user_id, name) if name in BASES else None

    def record_to_metadata_dict(record):
        return {"model_selection": {"name": "text-embedding-3-small", "provider": "OpenAI"}, "chunk_size": None}

    async def get_user_by_id(_session, user_id):
        return types.SimpleNamespace(id=user_id, username="user")

    async def backend_for_name(user_id, name, embedding_function=None):
        record = Record(user_id, name)
        context = SQLiteStorageContext(Path(folder) / "stores", record.user_id, record.id)
        create = name not in made
        made.add(name)
        return SQLiteBackend(
            name, embedding_function=embedding_function, user_id=user_id, storage_context=context, create=create
        )

    @contextlib.asynccontextmanager
    async def operation(_record, **_):
        yield

    parts = {
        "langflow.api.utils.knowledge_base_service": {
            "get_by_user_and_name": get_by_user_and_name,
            "record_to_metadata_dict": record_to_metadata_dict,
        },
        "langflow.api.utils.kb_helpers": {
            "backend_for_name": backend_for_name,
            "resolve_local_store_path": lambda *_, **__: None,
        },
        "langflow.services.database.models.user.crud": {"get_user_by_id": get_user_by_id},
        "langflow.services.knowledge_base_storage.runtime": {
            "operation": operation,
            "resolve_record": get_by_user_and_name,
        },
    }
    for path, members in parts.items():
        names = path.split(".")
        for depth in range(1, len(names) + 1):
            name = ".".join(names[:depth])
            module = sys.modules.setdefault(name, types.ModuleType(name))
            module.__path__ = []
            if depth > 1:
                setattr(sys.modules[".".join(names[: depth - 1])], names[depth - 1], module)
        vars(sys.modules[path]).update(members)


def ranks(folder):
    """tiktoken fetches its ranks when it is used first; the crate that this engine counts with has the same."""
    home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    packed = glob.glob(home + "/registry/src/*/bpe-openai-*/data/cl100k_base.tiktoken.gz")
    if packed:
        cache = folder / "tiktoken"
        cache.mkdir()
        (cache / hashlib.sha1(RANKS.encode()).hexdigest()).write_bytes(gzip.open(packed[0]).read())
        os.environ["TIKTOKEN_CACHE_DIR"] = str(cache)
