"""A directory for objects, and other Python processes that do what a test tells them."""

import gc
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import memlane

HANG = 40.0
"""Seconds that nothing here takes, unless it hangs."""
LONG = os.environ.get("MEMLANE_LONG") == "1"

_A = TypeVar("_A")
_idle: list["Peer"] = []


def wait_until(what: str, look: Callable[[], _A]) -> _A:
    """Look again and again until there is something."""
    deadline = time.monotonic() + HANG
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: did not happen"
        time.sleep(0.001)
    return found


def is_asleep(pid: int) -> bool:
    """Whether the main thread of a process sleeps."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


class PeerError(Exception):
    """What was raised in a peer."""

    def __init__(self, kinds: list[str], text: str, trace: str) -> None:
        super().__init__(f"{kinds[0]}: {text}\n{trace}")
        self.kinds = kinds
        self.text = text


class Peer:
    """A Python process that runs what it is told to, with the functions of peers.py at hand."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "always", str(Path(__file__).with_name("peers.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            bufsize=0,
        )
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.received = b""
        self.busy = False
        self.alone = False
        self.directory = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, source: str) -> None:
        """Begin to run statements, or to evaluate an expression."""
        assert not self.busy, "it has not ended what it was told before"
        self._tell({"source": textwrap.dedent(source), "directory": self.directory})
        self.busy = True

    def tell(self, value: Any) -> None:
        """Give it something that it hears."""
        self._tell({"value": value})

    def heard(self) -> Any:
        """Wait for what it says while it runs."""
        line = self._line()
        if "said" not in line:
            self.busy = False
            raise AssertionError(f"it ended instead of saying something: {line}")
        return line["said"]

    def result(self) -> Any:
        """Wait until it has ended what it was told, and return what came of it."""
        line = self._line()
        assert "said" not in line, f"it said something unexpected: {line}"
        self.busy = False
        if "error" in line:
            raise PeerError(line["error"], line["text"], line["trace"])
        return line["value"]

    def ask(self, source: str) -> Any:
        self.start(source)
        return self.result()

    def failure(self) -> PeerError:
        """Wait until what it was told has failed."""
        try:
            value = self.result()
        except PeerError as error:
            return error
        raise AssertionError(f"it did not fail, but returned {value!r}")

    def fails(self, source: str) -> PeerError:
        self.start(source)
        return self.failure()

    def wait_asleep(self) -> None:
        wait_until("its main thread sleeps", lambda: is_asleep(self.pid))

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """As `kill -9`."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process.wait(HANG) == -signal.SIGKILL
        self.check_errors()

    def end(self) -> None:
        """Let it end in good order."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(HANG) == 0
        self.check_errors()

    def complaints(self) -> str:
        """What it has written on stderr."""
        self.errors.seek(0)
        return self.errors.read().decode()

    def check_errors(self) -> None:
        assert self.complaints() == "", f"peer {self.pid} wrote on stderr: {self.complaints()}"

    def discard(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(HANG)
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream:
                stream.close()
        self.selector.close()

    def _tell(self, line: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    def _line(self) -> dict[str, Any]:
        deadline = time.monotonic() + HANG
        while b"\n" not in self.received:
            assert self.selector.select(max(0.0, deadline - time.monotonic())), f"peer {self.pid} hangs"
            piece = os.read(self.process.stdout.fileno(), 1 << 16)  # type: ignore[union-attr]
            if not piece:
                self.process.wait(HANG)
                self.check_errors()
                raise AssertionError(f"peer {self.pid} ended with {self.process.returncode}")
            self.received += piece
        line, _, self.received = self.received.partition(b"\n")
        return json.loads(line)


class Place:
    """A directory for objects of its own, and the peers that use it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="memlane-python-", dir="/dev/shm"))
        self.peers: list[Peer] = []
        self.settles = False
        """Whether another thread may let go of an object a moment later."""

    def peer(self, alone: bool = False) -> Peer:
        """A process that has not done anything in this directory yet; or `alone` in any, also afterwards."""
        peer = _idle.pop() if _idle and not alone else Peer()
        peer.alone = alone
        peer.directory = str(self.directory)
        self.peers.append(peer)
        return peer

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def inode(self, name: str) -> int:
        """The file of an object, which is made before it has a name."""
        return os.stat(self.directory / name).st_ino

    def end(self, passed: bool) -> None:
        """Assert that nothing is left, and nothing was complained about."""
        try:
            if passed:
                self._check()
        finally:
            for peer in self.peers:
                if not passed and peer.complaints():
                    print(f"peer {peer.pid} wrote on stderr: {peer.complaints()}")
                if passed and peer.process.poll() is None and not peer.busy and not peer.alone and len(_idle) < 4:
                    _idle.append(peer)
                else:
                    peer.discard()
            gc.collect()
            shutil.rmtree(self.directory)

    def _check(self) -> None:
        some_died = False
        for peer in self.peers:
            if peer.process.poll() is None:
                assert not peer.busy, "a peer still does something at the end of the test"
                peer.ask("forget()")
                if peer.alone:
                    peer.end()
            some_died = some_died or peer.process.poll() is not None and peer.process.returncode != 0
            peer.check_errors()
        gc.collect()
        if some_died:
            memlane.gc()
        if self.settles:
            wait_until("everything is let go of", lambda: not self.names())
        assert self.names() == [], "left behind"


def dismiss() -> None:
    """End the processes that no test uses any more."""
    while _idle:
        peer = _idle.pop()
        peer.end()
        peer.discard()
