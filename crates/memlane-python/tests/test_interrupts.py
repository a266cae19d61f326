"""Ctrl-C ends every call that waits, and what was waited for is still there afterwards."""

import os
import random
import select
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import memlane
import numpy as np
import pytest
from place import HANG, LONG, Peer, Place

CHANCE = random.Random(3)
VALUE = np.array([7])


@dataclass
class Wait:
    """A call that waits for something that this process has."""

    call: str
    opening: str = ""
    have: Callable[[ExitStack], object] = lambda stack: None
    afterwards: Callable[[Peer, object], None] = lambda peer, it: None


def sender(stack: ExitStack) -> memlane.Sender:
    return stack.enter_context(memlane.Sender("cam", slots=1))


def receiver(stack: ExitStack) -> memlane.Receiver:
    return stack.enter_context(memlane.Receiver("cam", timeout=HANG))


def closed_sender(stack: ExitStack) -> None:
    memlane.Sender("cam", keep=True).close()
    stack.callback(memlane.remove, "cam")


def server(stack: ExitStack) -> memlane.Server:
    return stack.enter_context(memlane.Server("cam"))


def closed_server(stack: ExitStack) -> None:
    memlane.Server("cam", keep=True).close()
    stack.callback(memlane.remove, "cam")


def memory(stack: ExitStack) -> memlane.SharedMemory:
    return stack.enter_context(memlane.SharedMemory("cam", create=True, size=64))


def held(stack: ExitStack) -> memlane.Mutex:
    mutex = memlane.Mutex(memory(stack))
    stack.enter_context(mutex)
    return mutex


def receives_the_next(peer: Peer, it: memlane.Sender) -> None:
    it.send(VALUE, timeout=HANG)
    assert peer.ask("receiver.recv(20).sequence") == 1


def has_sent_nothing(peer: Peer, it: object) -> None:
    assert peer.ask("sender.senders()[0].sent") == 1
    peer.ask("receiver.recv(20).release(); sender.send(np.array([2]), timeout=20)")
    assert peer.ask("int(receiver.recv(20).array[0])") == 2


def locks_later(peer: Peer, mutex: memlane.Mutex) -> None:
    assert peer.ask("mutex.locked") is False
    mutex.release()
    assert peer.ask("mutex.acquire(20); mutex.locked; mutex.release()") is None
    mutex.acquire(HANG)


RECEIVER = "receiver = memlane.Receiver('cam')"
FULL = "sender = memlane.Sender('cam', slots=1); receiver = memlane.Receiver('cam'); sender.send(np.array([1]))"
TICKET = "sender = memlane.Sender('cam'); receiver = memlane.Receiver('cam'); ticket = sender.send(np.array([1]))"
CALL = "client = memlane.Client('cam'); call = client.call(np.array([1]))"
LOCK = "memory = memlane.SharedMemory('cam'); mutex = memlane.Mutex(memory); " + (
    "condition = memlane.Condition(memory, 8, mutex)"
)
WAITS = {
    "recv": Wait("receiver.recv()", RECEIVER, sender, receives_the_next),
    "recv with a timeout": Wait("receiver.recv(1000)", RECEIVER, sender, receives_the_next),
    "next": Wait("next(receiver)", RECEIVER, sender, receives_the_next),
    "recv_many": Wait("receiver.recv_many(3)", RECEIVER, sender, receives_the_next),
    "Receiver.wait": Wait("receiver.wait()", RECEIVER, sender, receives_the_next),
    "wait_for_sender": Wait("receiver.wait_for_sender()", RECEIVER, closed_sender),
    "WaitSet.wait": Wait("waits.wait()", RECEIVER + "; waits = memlane.WaitSet(); waits.add(receiver)", sender),
    "Receiver": Wait("memlane.Receiver('cam', timeout=None)"),
    "Client": Wait("memlane.Client('cam', timeout=None)"),
    "Ticket.wait": Wait("ticket.wait()", TICKET),
    "wait_processed": Wait("ticket.wait_processed()", TICKET),
    "send": Wait("sender.send(np.array([3]))", FULL, afterwards=has_sent_nothing),
    "Loan.send": Wait("sender.loan_array(1).send()", FULL, afterwards=has_sent_nothing),
    "the end of a loan": Wait("sender.loan_array(1).__exit__(None, None, None)", FULL, afterwards=has_sent_nothing),
    "wait_for_receivers": Wait("sender.wait_for_receivers(2)", FULL, afterwards=has_sent_nothing),
    "Server.recv": Wait("server.recv()", "server = memlane.Server('cam')"),
    "next request": Wait("next(server)", "server = memlane.Server('cam')"),
    "Client.answer": Wait("client.answer(call)", CALL, server),
    "any_answer": Wait("client.any_answer()", CALL, server),
    "ask": Wait("client.ask(np.array([1]))", "client = memlane.Client('cam')", server),
    "wait_for_server": Wait("client.wait_for_server()", "client = memlane.Client('cam')", closed_server),
    "Mutex.acquire": Wait("mutex.acquire()", LOCK, held, locks_later),
    "entering a Mutex": Wait("mutex.__enter__()", LOCK, held, locks_later),
    "repair": Wait("mutex.repair().__enter__()", LOCK, held, locks_later),
    "Condition.wait": Wait("waits_for(mutex, condition.wait)", LOCK, memory),
    "Condition.wait in a repair": Wait("waits_in_repair(mutex, condition.wait)", LOCK, memory),
    "Condition.wait_for": Wait("waits_for(mutex, lambda: condition.wait_for(lambda: False))", LOCK, memory),
}


@pytest.fixture
def stack(place: Place) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


CASES = {
    f"{name}, {when}": (wait, when)
    for name, wait in WAITS.items()
    for when in ("asleep", "at once")
    if when == "asleep" or "waits_" not in wait.call  # they lock a mutex before: that is the next test
}


@pytest.mark.parametrize(("wait", "when"), CASES.values(), ids=CASES.keys())
def test_it_ends_with_keyboard_interrupt(place: Place, stack: ExitStack, wait: Wait, when: str) -> None:
    it = wait.have(stack)
    peer = place.peer()
    peer.ask(wait.opening)
    for _ in range(3):
        peer.start(f"say('about to wait'); {wait.call}")
        assert peer.heard() == "about to wait"
        if when == "asleep":
            peer.wait_asleep()
        peer.interrupt()
        assert peer.failure().kinds[0] == "KeyboardInterrupt"
    wait.afterwards(peer, it)
    peer.ask("forget()")


@pytest.mark.parametrize("enter", ["mutex", "mutex.repair()"])
def test_an_interrupt_at_any_moment_leaves_no_mutex_locked(place: Place, stack: ExitStack, enter: str) -> None:
    memory(stack)
    peer = place.peer()
    peer.ask(LOCK)
    for _ in range(30):
        peer.start(f"""
            with mutex.repair(): pass
            say("begins")
            for _ in range(1 << 60):
                with {enter}: pass
        """)
        peer.heard()
        peer.interrupt()
        assert peer.failure().kinds[0] == "KeyboardInterrupt"
        assert peer.ask("mutex.locked") is False


def test_an_interrupt_at_any_moment_leaves_no_mutex_of_a_segment_locked(place: Place) -> None:
    peer = place.peer()
    peer.ask("dtype = memlane.struct('Value', [('value', memlane.mutex('u8'))])")
    peer.ask("segment = memlane.Segment('segment', dtype, create=True); mutex = segment.mutex('value')")
    for _ in range(300 if LONG else 60):
        peer.start("""
            with mutex.repair(): pass
            say("begins")
            for _ in range(1 << 60):
                with mutex as value: value[...] += 1
        """)
        peer.heard()
        select.select([], [], [], CHANCE.uniform(0, 0.003))
        peer.interrupt()
        assert peer.failure().kinds[0] == "KeyboardInterrupt"
        assert peer.ask("mutex.locked") is False


BODIES = {
    "copies": "sender.send(array, timeout=20); receiver.recv(20).release()",
    "loans": """
        with sender.loan_array((3, 4), "f4", timeout=20) as room:
            room[...] = 1
        with receiver.recv(20) as frame:
            assert frame.array.sum() == 12
    """,
    "views": """
        sender.send(array, timeout=20, metadata=b"some")
        frame = receiver.recv(20)
        views = [frame.array[1:], memoryview(frame), np.from_dlpack(frame), frame.metadata, repr(frame), repr(sender)]
        del views, frame
    """,
    "tickets": "ticket = sender.send(array, timeout=20); receiver.latest().release(); ticket.wait(20)",
    "loop": """
        sender.send(array, timeout=20)
        for frame in receiver:
            break
        frame.release()
    """,
    "errors": """
        for wrong in (object(), np.zeros(3, "M8[s]"), np.zeros(1 << 20)):
            try:
                sender.send(wrong)
            except (TypeError, ValueError):
                pass
    """,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_an_interrupt_at_any_moment_is_heard_and_costs_nothing(place: Place, body: str) -> None:
    peer = place.peer()
    peer.ask("sender, array = memlane.Sender('cam'), np.arange(40, dtype='u1')")
    peer.ask("receiver = memlane.Receiver('cam')")
    lines = textwrap.dedent(body).strip().splitlines()
    for _ in range(300 if LONG else 30):
        peer.start("say('begins')\nwhile True:\n    " + "\n    ".join(lines))
        peer.heard()
        select.select([], [], [], CHANCE.uniform(0, 0.005))
        peer.interrupt()
        assert peer.failure().kinds[0] == "KeyboardInterrupt"
        peer.ask("ticket = frame = views = room = None; gc.collect()")
        # What was sent and not received, or given back, because it was interrupted in between.
        peer.ask("receiver.rewind()\nwhile frame := receiver.try_recv(): frame = None")
        assert peer.ask("[it.claims for it in sender.receivers()]") == [0]
    peer.ask("\n".join(["for _ in range(20):", *("    " + line for line in lines)]))


def test_a_signal_that_raises_nothing_does_not_end_a_wait(place: Place, stack: ExitStack) -> None:
    it = sender(stack)
    peer = place.peer()
    peer.ask("signal.signal(signal.SIGUSR1, lambda *_: say('handled'))")
    peer.ask(RECEIVER)
    peer.start("say('about to wait'); say(receiver.recv().sequence)")
    peer.heard()
    for _ in range(3):
        peer.wait_asleep()
        os.kill(peer.pid, signal.SIGUSR1)
        assert peer.heard() == "handled"
    it.send(VALUE, timeout=HANG)
    assert peer.heard() == 1
    peer.result()
    peer.ask("signal.signal(signal.SIGUSR1, signal.SIG_DFL)")


def test_an_exception_from_a_handler_comes_out_of_the_wait(place: Place, stack: ExitStack) -> None:
    sender(stack)
    peer = place.peer()
    peer.ask(RECEIVER)
    peer.ask("""
        def handle(*_):
            raise LookupError("from the handler")
        signal.signal(signal.SIGUSR1, handle)
    """)
    peer.start("say('about to wait'); receiver.recv(1000)")
    peer.heard()
    peer.wait_asleep()
    os.kill(peer.pid, signal.SIGUSR1)
    assert peer.failure().text == "from the handler"
    peer.ask("signal.signal(signal.SIGUSR1, signal.SIG_DFL)")


def test_another_thread_waits_on_while_the_main_one_is_interrupted(place: Place, stack: ExitStack) -> None:
    it = sender(stack)
    peer = place.peer()
    peer.ask(RECEIVER)
    peer.ask("""
        got = []
        thread = threading.Thread(target=lambda: got.append(receiver.recv().sequence))
        thread.start()
    """)
    peer.start("say('about to wait'); signal.pause()")
    peer.heard()
    peer.wait_asleep()
    peer.interrupt()
    assert peer.failure().kinds[0] == "KeyboardInterrupt"
    it.send(VALUE, timeout=HANG)
    assert peer.ask("(thread.join(20), got)") == [None, [1]]
