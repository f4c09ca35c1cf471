"""A forked child: takes runs from its socket, tells what happens, and is ended from outside.

Components may print, block, crash or call `os._exit`: none of that is held up here. What must hold is that each line
names its run, and that a child whose supervisor is gone ends.
"""

import asyncio
import contextvars
import faulthandler
import json
import os
import random
import socket
import sys
import threading
import traceback

# Characters of a message about an error.
MESSAGE = 4_000

current: contextvars.ContextVar["Run | None"] = contextvars.ContextVar("flowfleet_run", default=None)
# The node that is being built.
node: contextvars.ContextVar[str] = contextvars.ContextVar("flowfleet_node", default="")


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Channel:
    """Lines of JSON to and from the supervisor. Any thread may tell."""

    def __init__(self, fd: int, max_line: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.max_line = max_line
        self.lock = threading.Lock()

    def tell(self, **event) -> bool:
        """Whether it was short enough to be told."""
        line = json.dumps(event, default=str).encode("utf-8", "replace") + b"\n"
        if len(line) > self.max_line:
            return False
        with self.lock:
            self.socket.sendall(line)
        return True

    def lines(self):
        with self.socket.makefile("rb") as file:
            yield from file


class Run:
    """One run, as its parts find it in their context."""

    def __init__(self, call: dict, channel: Channel) -> None:
        self.call = call
        self.id = call["run"]
        self.channel = channel
        self.memory = None

    def tell(self, event: str, **fields) -> bool:
        return self.channel.tell(event=event, run=self.id, **fields)

    def end(self, event: str, **fields) -> bool:
        return self.tell(event, resident_bytes=resident_bytes(), **fields)


class Child:
    def __init__(self, channel: Channel, settings: dict) -> None:
        self.channel = channel
        self.alone = settings["runs_per_child"] == 1
        self.base = dict(os.environ)
        self.tasks: dict[str, asyncio.Task] = {}

    async def serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        threading.Thread(target=self.listen, name="flowfleet", daemon=True).start()
        await self.ended.wait()

    def listen(self) -> None:
        """Outside the loop, so that a component that blocks it cannot keep the child alive."""
        try:
            for line in self.channel.lines():
                self.loop.call_soon_threadsafe(self.order, json.loads(line))
        finally:
            os._exit(0)

    def order(self, order: dict) -> None:
        if order["op"] == "run":
            run = Run(order, self.channel)
            task = self.loop.create_task(self.run(run), name=f"run {run.id}")
            self.tasks[run.id] = task
        elif order["op"] == "cancel" and (task := self.tasks.get(order["run"])):
            task.cancel()

    async def run(self, run: Run) -> None:
        from . import flow

        current.set(run)
        if self.alone:
            # With others in the same process there is one environment for all: a run's own values then reach
            # components as variables of the request only.
            os.environ.clear()
            os.environ.update(self.base | run.call["environment"])
        try:
            result = await flow.execute(run)
            if not run.end("result", **result):
                most = self.channel.max_line >> 20
                run.end("error", code="python_output_too_large", message=f"the outputs are larger than {most} MiB")
        except asyncio.CancelledError:
            run.end("cancelled")
        except Exception as error:
            run.end("error", **flow.explain(error))
        finally:
            self.tasks.pop(run.id, None)
            if self.alone:
                self.tidy()

    def tidy(self) -> None:
        """What the run left running in the loop ends with it."""
        mine = asyncio.current_task()
        for task in asyncio.all_tasks(self.loop):
            if task is not mine and task is not self.main:
                task.cancel()

    async def main_task(self) -> None:
        self.main = asyncio.current_task()
        await self.serve()


def main(fd: int, folder: str, settings: dict) -> None:
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    import tempfile

    tempfile.tempdir = None
    faulthandler.enable()
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    channel = Channel(fd, settings["max_line_bytes"])
    try:
        asyncio.run(Child(channel, settings).main_task())
    except BaseException:
        traceback.print_exc()
        raise
