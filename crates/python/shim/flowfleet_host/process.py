"""The warm parent: loads lfx once and forks children that run flows.

    python -c 'from flowfleet_host.process import main; main()' SETTINGS

File descriptor 0 is a Unix socket to the supervisor; lines of JSON go both ways. With `fork` come two descriptors for
the child: its own socket, and where what it prints goes. Nothing of a flow runs in this process: it forks, buries,
kills and watches memory. When the socket closes, all children are killed and it ends.
"""

import ctypes
import gc
import json
import os
import platform
import resource
import select
import signal
import socket
import sys
import threading
import time

from . import child

PR_SET_PDEATHSIG = 1
PAGE = os.sysconf("SC_PAGE_SIZE")
# How often the memory of children is looked at, in seconds.
WATCH = 0.2
# A request to this process is a short line; flows go to the children.
MAX_LINE = 1 << 16


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when the thread that made it ends; it may have ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def memory_of(pid: int) -> tuple[int, int]:
    """Bytes mapped and resident."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        mapped, resident = file.read().split()[:2]
    return int(mapped) * PAGE, int(resident) * PAGE


class Host:
    def __init__(self, control: socket.socket, settings: dict) -> None:
        self.control = control
        self.settings = settings
        self.children: dict[int, int] = {}
        self.killed_for_memory: dict[int, int] = {}
        self.waiting_fds: list[int] = []
        self.unread = b""

    def tell(self, **event) -> None:
        self.control.sendall(json.dumps(event).encode() + b"\n")

    def serve(self) -> None:
        wake, woken = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken)
        while True:
            ready, _, _ = select.select([self.control, wake], [], [], WATCH if self.children else None)
            if wake in ready:
                os.read(wake, 4096)
            self.bury()
            self.watch()
            if self.control in ready and not self.listen():
                return

    def listen(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self.control, MAX_LINE, 16)
        self.waiting_fds += fds
        if not data:
            return False
        *lines, self.unread = (self.unread + data).split(b"\n")
        if len(self.unread) > MAX_LINE:
            return False
        for line in lines:
            order = json.loads(line)
            if order["op"] == "fork":
                self.fork(order)
            elif order["op"] == "kill":
                self.kill(order["child"])
        return True

    def fork(self, order: dict) -> None:
        channel, output = self.waiting_fds[:2]
        del self.waiting_fds[:2]
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(event="exited", child=order["child"], reason=f"cannot fork: {error.strerror}")
            os.close(channel)
            os.close(output)
            return
        if pid == 0:
            try:
                self.become_child(parent, order, channel, output)
            finally:
                os._exit(70)
        os.close(channel)
        os.close(output)
        self.children[order["child"]] = pid
        self.tell(event="forked", child=order["child"], pid=pid)

    def become_child(self, parent: int, order: dict, channel: int, output: int) -> None:
        os.setsid()
        die_with_parent(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        self.control.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        # Whatever else is open belongs to the parent.
        keep = {0, 1, 2, channel}
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    pass
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        memory = self.settings["memory_bytes"]
        if memory:
            # The watch acts on what is resident; this stops one huge allocation between two looks.
            most = memory_of(os.getpid())[0] + 2 * memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        child.main(channel, order["dir"], self.settings)
        os._exit(0)

    def kill(self, number: int) -> None:
        pid = self.children.get(number)
        if pid is None:
            return
        # The child leads a session: what a component has started goes with it.
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def bury(self) -> None:
        for number, pid in list(self.children.items()):
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found == 0:
                continue
            del self.children[number]
            try:
                # What it left running.
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            end = {"event": "exited", "child": number, "peak_bytes": usage.ru_maxrss * 1024}
            if os.WIFSIGNALED(status):
                end["signal"] = os.WTERMSIG(status)
            else:
                end["code"] = os.waitstatus_to_exitcode(status)
            if (resident := self.killed_for_memory.pop(number, None)) is not None:
                end["memory_bytes"] = resident
            self.tell(**end)

    def watch(self) -> None:
        most = self.settings["memory_bytes"]
        for number, pid in self.children.items() if most else ():
            try:
                resident = memory_of(pid)[1]
            except OSError:
                continue
            if resident > most and number not in self.killed_for_memory:
                self.killed_for_memory[number] = resident
                self.kill(number)

    def end(self) -> None:
        for number in list(self.children):
            self.kill(number)


def main() -> None:
    # The supervisor's socket is moved away from where anything else would look for standard input and output.
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    settings = json.loads(sys.argv[-1])
    # Not with a wrapper in between, whose thread is not the supervisor's; the socket's end is noticed in any case.
    if settings["die_with_parent"]:
        die_with_parent(os.getppid())
    host = Host(control, settings)
    began = time.monotonic()
    try:
        from . import flow

        versions = flow.preload()
    except BaseException as error:
        host.tell(event="broken", message=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
    # A thread would be missing in the children, perhaps with a lock in its hands.
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    gc.collect()
    gc.freeze()
    host.tell(
        event="ready",
        python=platform.python_version(),
        threads=threads,
        resident_bytes=memory_of(os.getpid())[1],
        took_ms=round((time.monotonic() - began) * 1000),
        **versions,
    )
    try:
        host.serve()
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        host.end()
