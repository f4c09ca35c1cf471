"""The fleet as this package talks to it: flows are put, runs are streamed, runs are cancelled."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Documents that are known to be stored.
KNOWN = 1_000
# A run may be silent for as long as its model thinks; the fleet sends an empty line every 15 s.
SILENCE = 60.0


class FleetError(RuntimeError):
    """What the fleet answered instead of what was asked for."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code

    @property
    def is_unsupported(self) -> bool:
        """Whether the fleet cannot run this flow, and another executor may."""
        return self.code in ("flow_unsupported", "flow_invalid", "not_available")


@dataclass
class Call:
    """One run to make."""

    flow: str
    body: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)


class Fleet:
    """A fleet's API. Safe to share between runs; bound to no event loop."""

    def __init__(self, url: str | None = None, key: str | None = None, queue: str | None = None) -> None:
        self._url = (url or os.environ.get("FLOWFLEET_URL") or "http://127.0.0.1:7700").rstrip("/")
        key = key or os.environ.get("FLOWFLEET_API_KEY")
        self._headers = {"x-api-key": key} if key else {}
        queue = queue or os.environ.get("FLOWFLEET_QUEUE")
        self._run_headers = {"x-flowfleet-queue": queue} if queue else {}
        self._known: OrderedDict[str, None] = OrderedDict()

    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(30.0, read=SILENCE)
        return httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=timeout)

    async def put(self, flow_id: str, document: dict[str, Any], *, again: bool = False) -> str:
        """Stores a flow and answers with its name there. The same document has the same name."""
        raw = json.dumps(document, sort_keys=True, default=str).encode()
        name = f"langflow-{flow_id}-{hashlib.sha256(raw).hexdigest()[:16]}"
        if name in self._known and not again:
            self._known.move_to_end(name)
            return name
        async with self._client() as client:
            answer = await client.put(f"/v1/flows/{name}", content=raw)
            _refuse(answer.status_code, answer.content)
            if answer.json().get("engine") == "python" and not await self._has_python(client):
                reasons = "; ".join(map(str, answer.json().get("unsupported", [])))
                detail = f"it needs Python, and no worker of the fleet has it: {reasons}"
                raise FleetError(answer.status_code, "flow_unsupported", detail)
        self._known[name] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return name

    async def _has_python(self, client: httpx.AsyncClient) -> bool:
        """Whether some worker runs flows in Python: elsewhere such a run would wait for one."""
        answer = await client.get("/v1/fleet/workers")
        _refuse(answer.status_code, answer.content)
        return any("python" in worker["capabilities"] for worker in answer.json()["items"])

    @asynccontextmanager
    async def run(self, call: Call) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Makes a run and tells its events. Left before its end, the run is cancelled."""
        headers = {f"X-LANGFLOW-GLOBAL-VAR-{name}": value for name, value in call.variables.items()}
        headers |= self._run_headers
        path = f"/api/v1/run/{call.flow}?stream=true"
        async with self._client() as client, client.stream("POST", path, json=call.body, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                _refuse(answer.status_code, await answer.aread())
            run, ended = answer.headers.get("x-flowfleet-run"), False

            async def events() -> AsyncIterator[dict[str, Any]]:
                nonlocal ended
                async for line in answer.aiter_lines():
                    if line.strip():
                        event = json.loads(line)
                        ended = event["event"] in ("end", "error")
                        yield event

            try:
                yield events()
            finally:
                if run and not ended:
                    await self._cancel(run)

    async def _cancel(self, run: str) -> None:
        try:
            async with self._client() as client:
                await client.post(f"/v1/runs/{run}/cancel", timeout=5.0)
        except httpx.HTTPError:
            # It ends at its timeout.
            pass


def _refuse(status: int, body: bytes) -> None:
    if status < httpx.codes.BAD_REQUEST:
        return
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    detail = problem.get("detail") or body.decode(errors="replace")[:500]
    raise FleetError(status, problem.get("code", ""), f"the fleet answers {status}: {detail}")
