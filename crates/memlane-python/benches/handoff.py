"""How long it takes to hand a frame from one Python process to another, by memlane and by what else there is.

    python benches/handoff.py [--frames 100] [--rounds 6] [--cores apart] [--json]

All contenders do the same between the same two processes, in turn, block by block. A frame is prepared in the sender's
own memory; handing it over copies it from there to where the contender wants it. The receiver reads a byte of each page
of it, and then says that it has processed it. One frame is in flight at a time: the time is from the prepared frame to
the receiver's answer. Streamed, nobody waits for answers, and as many frames are in flight as there is room for.

Which is faster depends on where the system runs the two processes: --cores says where, look at all three.

    memlane         loan_array, one copy into it, send, ticket.wait; the receiver reads in place. With one slot, as
                    shared_memory has, and with four, the default: then more memory takes turns, and less of it stays
                    in the processor's cache
    queue           multiprocessing.Queue of arrays, which pickles them; a semaphore as the answer
    shared_memory   multiprocessing.shared_memory with one frame's room, and an Event each way
    socket          a pair of Unix sockets, sendall and recv_into into a prepared array; a byte as the answer

The overhead is what memlane's calls cost in Python when there is nothing to copy: arrays of 64 bytes, in one process.
"""

import argparse
import json
import multiprocessing as mp
import os
import platform
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple, Protocol

import memlane
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

SHAPE = (1080, 1920, 3)
SIZE = int(np.prod(SHAPE))
PAGE = 4096
WINDOW = 4
PATIENCE = 30.0
WARM_UP = 20


def touch(frame: Frame) -> int:
    """Reads a byte of each page."""
    return int(frame.reshape(-1)[::PAGE].sum())


class Sending(Protocol):
    def send(self, frame: Frame, wait: bool) -> None:
        """Hands a frame over, and waits for the answer or for room."""

    def close(self) -> None: ...


class Receiving(Protocol):
    def receive(self, answer: bool) -> int:
        """Receives a frame, touches it, and says so; returns the sum."""


class Contender(NamedTuple):
    label: str
    sending: Sending
    other: Callable[[], Receiving]
    """Makes the other end, in the other process."""
    streams: bool = True


class MemlaneSending:
    def __init__(self, name: str, slots: int) -> None:
        self.sender = memlane.Sender(name, max_message=SIZE, slots=slots, receivers=1)

    def send(self, frame: Frame, wait: bool) -> None:
        loan = self.sender.loan_array(SHAPE)
        np.copyto(loan.array, frame)
        ticket = loan.send(PATIENCE)
        if wait:
            ticket.wait(PATIENCE)

    def close(self) -> None:
        self.sender.close()


class MemlaneReceiving:
    def __init__(self, name: str) -> None:
        self.receiver = memlane.Receiver(name)

    def receive(self, answer: bool) -> int:
        with self.receiver.recv() as frame:
            return touch(frame.array)


def memlane_contender(label: str, slots: int, context: Any) -> Contender:
    name = f"bench-handoff-{os.getpid()}-{slots}"
    return Contender(label, MemlaneSending(name, slots), partial(MemlaneReceiving, name))


class QueueSending:
    def __init__(self, queue: Any, answered: Any) -> None:
        self.queue, self.answered = queue, answered

    def send(self, frame: Frame, wait: bool) -> None:
        self.queue.put(frame, timeout=PATIENCE)
        if wait and not self.answered.acquire(timeout=PATIENCE):
            raise TimeoutError("no answer")

    def close(self) -> None:
        self.queue.close()


class QueueReceiving:
    def __init__(self, queue: Any, answered: Any) -> None:
        self.queue, self.answered = queue, answered

    def receive(self, answer: bool) -> int:
        total = touch(self.queue.get())
        if answer:
            self.answered.release()
        return total


def queue_contender(context: Any) -> Contender:
    ends = context.Queue(WINDOW), context.Semaphore(0)
    return Contender("queue", QueueSending(*ends), partial(QueueReceiving, *ends))


class SlotSending:
    def __init__(self, ready: Any, done: Any) -> None:
        self.memory = SharedMemory(create=True, size=SIZE)
        self.slot: Frame = np.ndarray(SHAPE, np.uint8, self.memory.buf)
        self.ready, self.done = ready, done

    def send(self, frame: Frame, wait: bool) -> None:
        np.copyto(self.slot, frame)
        self.ready.set()
        if not self.done.wait(PATIENCE):
            raise TimeoutError("no answer")
        self.done.clear()

    def close(self) -> None:
        del self.slot
        self.memory.close()
        self.memory.unlink()


class SlotReceiving:
    def __init__(self, name: str, ready: Any, done: Any) -> None:
        self.memory = SharedMemory(name)
        self.slot: Frame = np.ndarray(SHAPE, np.uint8, self.memory.buf)
        self.ready, self.done = ready, done

    def receive(self, answer: bool) -> int:
        self.ready.wait()
        self.ready.clear()
        total = touch(self.slot)
        self.done.set()
        return total


def slot_contender(context: Any) -> Contender:
    events = context.Event(), context.Event()
    sending = SlotSending(*events)
    return Contender("shared_memory", sending, partial(SlotReceiving, sending.memory.name, *events), streams=False)


class SocketSending:
    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, frame: Frame, wait: bool) -> None:
        self.end.sendall(frame.data)
        if wait and not self.end.recv(1):
            raise ConnectionError("the receiver has gone")

    def close(self) -> None:
        self.end.close()


class SocketReceiving:
    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.frame = np.empty(SHAPE, np.uint8)

    def receive(self, answer: bool) -> int:
        rest = self.frame.data.cast("B")
        while rest:
            rest = rest[self.end.recv_into(rest) :]
        total = touch(self.frame)
        if answer:
            self.end.send(b"!")
        return total


def socket_contender(context: Any) -> Contender:
    here, there = socket.socketpair()
    return Contender("socket", SocketSending(here), partial(SocketReceiving, there))


def end_with_parent() -> None:
    if parent := mp.parent_process():
        parent.join()
    os._exit(1)


def serve(orders: Connection, others: list[Callable[[], Receiving]]) -> None:
    """The other process: receives what it is told to, and sends the sum of what it has seen back."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    receivers = [other() for other in others]
    orders.send(None)
    while order := orders.recv():
        which, answer, count = order
        orders.send(None)
        orders.send(sum(receivers[which].receive(answer) for _ in range(count)))


class Block(NamedTuple):
    """Nanoseconds: of each frame while one is in flight, and per frame of a stream."""

    times: list[int]
    streamed: float | None


def measure(orders: Connection, which: int, contender: Contender, count: int) -> Block:
    frame = np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8)
    frame[0, 0, 0] = 0
    same = count * touch(frame)
    clock, times = time.perf_counter_ns, []

    def order(answer: bool) -> None:
        orders.send((which, answer, count))
        orders.recv()

    def check(expected: int) -> None:
        if orders.recv() != expected:
            raise SystemExit(f"handoff: {contender.label} has not handed over what was sent")

    order(True)
    for number in range(count):
        frame[0, 0, 0] = number % 256
        start = clock()
        contender.sending.send(frame, True)
        times.append(clock() - start)
    check(same + sum(number % 256 for number in range(count)))
    if not contender.streams:
        return Block(times, None)
    frame[0, 0, 0] = 0  # and it stays as it is: a queue pickles it some time later
    order(False)
    start = clock()
    for _ in range(count):
        contender.sending.send(frame, False)
    check(same)
    return Block(times, (clock() - start) / count)


def overhead(rounds: int) -> dict[str, float]:
    """Microseconds per message of 64 bytes, both ends in this process; the median of so many rounds of 64 messages."""
    clock, taken = time.perf_counter_ns, []
    name = f"bench-overhead-{os.getpid()}"
    with memlane.Sender(name, max_message=64, slots=64, receivers=1) as sender, memlane.Receiver(name) as receiver:
        for _ in range(rounds):
            times = [clock()]
            tickets = []
            for number in range(64):
                loan = sender.loan_array(64)
                loan.array[0] = number
                tickets.append(loan.send())
            times.append(clock())
            for number in range(64):
                with receiver.recv() as frame:
                    if frame.array[0] != number:
                        raise SystemExit("handoff: a message is not what was sent")
            times.append(clock())
            for ticket in tickets:
                ticket.wait(PATIENCE)
            times.append(clock())
            taken.append([after - before for before, after in zip(times, times[1:])])
    names = ["loan_array, array, send", "recv, array, release", "ticket.wait"]
    return {name: statistics.median(part) / 64 / 1000 for name, part in zip(names, zip(*taken))}


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def pin(process: int, where: str) -> None:
    """Keeps this process and the other one on a processor each, or both on one."""
    usable = sorted(os.sched_getaffinity(0))
    if where == "apart" and len(usable) < 2:
        raise SystemExit("handoff: there is one processor only: --cores together")
    if where != "free":
        os.sched_setaffinity(process, usable[:1] if where == "together" else usable[1:2])
        os.sched_setaffinity(0, usable[:1])


def compare(count: int, rounds: int, where: str) -> dict[str, list[Block]]:
    """The blocks of each contender, those of one round after each other."""
    context = mp.get_context("spawn")
    contenders = [
        memlane_contender("memlane", 1, context),
        memlane_contender("memlane, 4 slots", WINDOW, context),
        queue_contender(context),
        slot_contender(context),
        socket_contender(context),
    ]
    orders, theirs = context.Pipe()
    others = [contender.other for contender in contenders]
    process = context.Process(target=serve, args=(theirs, others), daemon=True)
    process.start()
    theirs.close()
    pin(process.pid or 0, where)
    blocks: dict[str, list[Block]] = {contender.label: [] for contender in contenders}
    try:
        orders.recv()
        for number in range(rounds + 1):
            for which, contender in enumerate(contenders):
                progress(f"{contender.label}: " + (f"round {number} of {rounds}" if number else "warming up"))
                block = measure(orders, which, contender, count if number else WARM_UP)
                if number:
                    blocks[contender.label].append(block)
        orders.send(None)
        process.join(PATIENCE)
    except (EOFError, OSError) as error:
        raise SystemExit(f"handoff: the receiving process does not answer: {error!r}") from None
    finally:
        progress("")
        process.kill()
        for contender in contenders:
            contender.sending.close()
    return blocks


def summary(blocks: dict[str, list[Block]]) -> dict[str, dict[str, float | None]]:
    """Milliseconds; ratios to memlane, of all, and the lowest and the highest of one round."""
    medians = {label: [statistics.median(block.times) for block in its] for label, its in blocks.items()}
    everything = {label: sorted(time for block in its for time in block.times) for label, its in blocks.items()}
    base = statistics.median(everything["memlane"])
    result: dict[str, dict[str, float | None]] = {}
    for label, times in everything.items():
        ratios = [its / own for its, own in zip(medians[label], medians["memlane"])]
        streamed = [block.streamed for block in blocks[label] if block.streamed is not None]
        result[label] = {
            "median_ms": statistics.median(times) / 1e6,
            "p99_ms": times[len(times) * 99 // 100] / 1e6,
            "ratio": statistics.median(times) / base,
            "lowest_ratio": min(ratios),
            "highest_ratio": max(ratios),
            "streamed_ms": statistics.median(streamed) / 1e6 if streamed else None,
        }
    return result


def show(contenders: dict[str, dict[str, float | None]], calls: dict[str, float]) -> None:
    print(f"{'x'.join(map(str, SHAPE))} uint8, {SIZE / 1e6:.1f} MB a frame")
    print(f"{'':18}{'median':>10}{'99%':>10}{'to memlane':>13}{'in a round':>16}{'streamed':>12}")
    for label, its in contenders.items():
        streamed = "-" if its["streamed_ms"] is None else f"{its['streamed_ms']:.2f} ms"
        rounds = f"{its['lowest_ratio']:.2f} to {its['highest_ratio']:.2f}"
        times = f"{its['median_ms']:>7.2f} ms{its['p99_ms']:>7.2f} ms"
        print(f"{label:18}{times}{its['ratio']:>12.2f}x{rounds:>16}{streamed:>12}")
    print("\nmemlane's calls, microseconds per message of 64 bytes")
    for label, cost in {**calls, "together": sum(calls.values())}.items():
        print(f"{label:25}{cost:>10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100, help="frames in each block [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=6, help="blocks of each contender [default: %(default)s]")
    parser.add_argument(
        "--cores",
        choices=["apart", "together", "free"],
        default="free",
        help="run the two processes on a processor each, both on one, or as the system likes [default: %(default)s]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.frames < 1 or arguments.rounds < 1:
        parser.error("there must be a frame and a round at least")

    calls = overhead(200)
    contenders = summary(compare(arguments.frames, arguments.rounds, arguments.cores))
    if arguments.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
        figures = {"frame_bytes": SIZE, "cores": arguments.cores, "contenders": contenders, "calls_us": calls}
        print(json.dumps(figures | machine))
    else:
        show(contenders, calls)


if __name__ == "__main__":
    main()
