"""What a peer is: it runs Python source that comes by stdin, a JSON line each, and says what came of it on stdout.

Source can use the functions here. What it assigns stays until `forget()`.
"""

import copy
import ctypes
import gc
import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memlane
import numpy as np

PR_SET_PDEATHSIG = 1


def say(value: Any) -> None:
    """Tell the test something while it runs."""
    reply({"said": value})


def hear() -> Any:
    """Wait until the test tells something."""
    return json.loads(sys.stdin.readline())["value"]


def reply(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, default=plain) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return repr(value)


def digest(data: Any) -> str:
    """Of the bytes of an array, in the order of its indices."""
    return hashlib.sha256(np.asarray(data).tobytes()).hexdigest()


def seen(frame: "memlane.Frame") -> dict[str, Any]:
    """All that there is to be seen of a frame with an array."""
    array = frame.array
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "digest": digest(array),
        "nbytes": frame.nbytes,
        "length": len(frame) if array.ndim else None,
        "says": list(frame.shape),
        "format": frame.format,
        "metadata": frame.metadata.hex(),
        "schema_id": frame.schema_id,
        "sequence": frame.sequence,
        "lane": frame.lane,
        "missed": frame.missed,
    }


def expected(array: Any) -> dict[str, Any]:
    """What is to be seen of an array that was sent."""
    array = np.asarray(array)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return {"shape": list(array.shape), "dtype": native.dtype.str, "digest": digest(native), "nbytes": array.nbytes}


def equal(one: Any, other: Any) -> bool:
    """Whether two arrays, or records, have the same dtype and elements, whatever lies between these."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.names:
        return one.dtype == other.dtype and all(equal(one[name], other[name]) for name in one.dtype.names)
    return one.dtype == other.dtype and np.array_equal(one, other)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def file_at(where: int, length: int = 1) -> int:
    """The inode of the file that is mapped at an address, and at all `length` bytes there; 0 if it is no file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, _, _, _, inode, *_ = line.split(maxsplit=5)
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start <= where and where + length <= end:
            return int(inode)
    return 0


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def steady(count: int, body: Callable[[], Any]) -> list[int]:
    """Memory and descriptors after a tenth of the calls of `body`, and after all of them."""
    for _ in range(count // 10):
        body()
    gc.collect()
    before = resident(), descriptors()
    for _ in range(count - count // 10):
        body()
    gc.collect()
    after = resident(), descriptors()
    return [before[0], after[0], before[1], after[1]]


def numbered(sequence: int, size: int) -> np.ndarray:
    """Bytes that follow from a number, no two alike."""
    words = np.arange(sequence, sequence + -(-size // 8), dtype="<u8") * np.uint64(0x9E3779B97F4A7C15)
    return words.view("u1")[:size]


def waits_for(mutex: "memlane.Mutex", wait: Callable[[], Any]) -> Any:
    """Wait for a condition, with its mutex, also if that was left by an exception before."""
    with mutex.repair():
        pass
    with mutex:
        return wait()


def waits_in_repair(mutex: "memlane.Mutex", wait: Callable[[], Any]) -> Any:
    with mutex.repair():
        return wait()


def write(memory: "str | memlane.SharedMemory", data: bytes) -> None:
    """What the other process does in CPython's test of shared memory."""
    memory = memlane.SharedMemory(memory) if isinstance(memory, str) else memory
    memory.buf[: len(data)] = data
    memory.close()


def in_another_process(method: str, function: Callable[..., None], *arguments: Any) -> int | None:
    """Call a function of this module in a process of multiprocessing; how that one ended."""
    process = multiprocessing.get_context(method).Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def sum_up(receiver: "str | memlane.Receiver", answers: str) -> None:
    """Answer one array with its sum, and wait until that was received."""
    receiver = memlane.Receiver(receiver) if isinstance(receiver, str) else receiver
    with memlane.Sender(answers) as sender:
        sender.wait_for_receivers(1, 20)
        sender.send(np.array([receiver.recv(20).array.sum()])).wait(20)


def forked(function: Callable[[], Any]) -> tuple[int, int]:
    """Fork a child that calls `function`, and writes what came of it to a pipe. Its pid, and where to read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                answer = function()
            except Exception as error:
                answer = [[kind.__name__ for kind in type(error).__mro__], str(error)]
            os.write(writing, json.dumps(answer, default=plain).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def in_fork(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in a forked child."""
    child, reading = forked(function)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0 and answer, f"the child ended with {status}"
    return json.loads(answer)


class Linked(np.ndarray):
    """An array that can be part of a cycle."""

    link: object


def die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit("the test has ended")


def run(source: str, names: dict[str, Any]) -> Any:
    """Run statements, or evaluate an expression."""
    try:
        code = compile(source.strip(), "<test>", "eval")
    except SyntaxError:
        exec(compile(source.strip(), "<test>", "exec"), names)
        return None
    return eval(code, names)


def main() -> None:
    die_with_parent()
    names: dict[str, Any] = {}
    runs = False

    def interrupt(number: int, where: Any) -> None:
        if runs:
            signal.default_int_handler(number, where)

    signal.signal(signal.SIGINT, interrupt)

    def forget() -> None:
        names.clear()
        names.update(globals(), copy=copy, pickle=pickle, threading=threading, forget=forget)
        gc.collect()

    forget()
    gc.freeze()
    for line in sys.stdin:
        told = json.loads(line)
        os.environ["MEMLANE_DIR"] = told["directory"]
        try:
            runs = True
            try:
                answer = {"value": run(told["source"], names)}
            finally:
                runs = False
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"error": kinds, "text": str(error), "trace": traceback.format_exc()}
        gc.collect()
        reply(answer)
        del answer


if __name__ == "__main__":
    main()
