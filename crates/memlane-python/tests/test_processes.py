"""What was opened before a fork is the parent's; what is passed to a new process is opened there."""

import memlane
import numpy as np
import pytest
from place import HANG, Place

OPENINGS = """
sender = memlane.Sender("cam")
receiver = memlane.Receiver("cam")
ticket = sender.send(np.arange(100))
frame = receiver.recv(5)
loan = sender.loan_array(100)
server = memlane.Server("service")
client = memlane.Client("service")
memory = memlane.SharedMemory("memory", create=True, size=64)
mutex = memlane.Mutex(memory)
condition = memlane.Condition(memory, 8, mutex)
segment = memlane.Segment("segment", [("lock", memlane.mutex("u8"))], create=True)
guard = segment.mutex("lock")
"""
USES = [
    "sender.send(np.arange(3), timeout=5)",
    "sender.loan_array(3).send(5)",
    "loan.send(5)",
    "sender.wait_for_receivers(1, 5)",
    "ticket.wait(5)",
    "receiver.recv(5)",
    "receiver.try_recv()",
    "receiver.latest()",
    "receiver.wait(5)",
    "next(receiver)",
    "server.recv(5)",
    "server.try_recv()",
    "client.call(np.arange(3))",
    "client.any_answer(5)",
    "mutex.acquire(5)",
    "mutex.repair(5).__enter__()",
    "guard.acquire(5)",
]


@pytest.fixture
def parent(place: Place):
    peer = place.peer()
    peer.ask(OPENINGS)
    return peer


@pytest.mark.parametrize("use", USES)
def test_a_handle_says_in_a_forked_child_what_to_do(parent, use: str) -> None:
    kinds, text = parent.ask(f"in_fork(lambda: {use})")
    assert "ForkedError" in kinds and "RuntimeError" in kinds
    assert "fork" in text and "open" in text and "child" in text


def test_a_forked_child_does_the_parent_no_harm(parent) -> None:
    """It ends without having let go of anything, and with garbage collected, that is its parent's."""
    for call in ("forget", "frame.release", "receiver.close", "sender.close", "loan.discard", "memory.close"):
        parent.ask(f"in_fork({call})")
    assert parent.ask("ticket.is_processed, frame.released, sender.closed") == [False, False, False]
    assert parent.ask("frame.array.sum()") == 4950
    parent.ask("loan.array[...] = 3; loan.send(5); frame.release()")
    assert parent.ask("receiver.recv(5).array.sum()") == 300
    parent.ask("mutex.acquire(5); mutex.release()")
    assert [outcome for _, outcome in parent.ask("ticket.wait(5)")] == ["processed"]


def test_a_child_that_lives_on_does_not_make_its_parent_seem_alive(place: Place, parent) -> None:
    parent.ask("child = forked(hear)")
    with memlane.Receiver("cam") as receiver:
        parent.kill()
        with pytest.raises(memlane.SenderDied):
            while True:
                receiver.recv(HANG)


def test_a_forked_child_opens_by_name(parent) -> None:
    assert parent.ask("""in_fork(lambda: (
        memlane.Receiver("cam").name,
        memlane.SharedMemory("memory").size,
        memlane.Mutex(memlane.SharedMemory("memory")).acquire(5),
        memlane.Client("service").name,
        [it.who.pid == os.getppid() for it in memlane.Receiver("cam").senders()],
    ))""") == ["cam", 64, None, "service", [True]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_receives_by_name(place: Place, method: str) -> None:
    with memlane.Sender("cam") as sender:
        peer = place.peer(alone=True)
        peer.start(f"in_another_process({method!r}, sum_up, 'cam', 'sums')")
        with memlane.Receiver("sums", timeout=HANG) as sums:
            sender.wait_for_receivers(1, HANG)
            sender.send(np.arange(10))
            assert sums.recv(HANG).array.tolist() == [45]
        assert peer.result() == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_receiver_is_opened_again_where_it_is_passed_to(place: Place, method: str) -> None:
    with memlane.Sender("cam") as sender:
        peer = place.peer(alone=True)
        peer.ask("receiver = memlane.Receiver('cam')")
        peer.start(f"in_another_process({method!r}, sum_up, receiver, 'sums')")
        with memlane.Receiver("sums", timeout=HANG) as sums:
            sender.wait_for_receivers(2, HANG)
            sender.send(np.arange(10))
            assert sums.recv(HANG).array.tolist() == [45]
        assert peer.result() == 0
        assert peer.ask("int(receiver.recv(5).array.sum())") == 45


def test_a_sender_that_is_passed_says_what_to_do_instead(parent) -> None:
    for how in ("in_another_process('spawn', print, sender)", "pickle.dumps(sender)", "copy.copy(sender)"):
        error = parent.fails(how)
        assert "TypeError" in error.kinds
        assert "'cam'" in error.text and "open" in error.text, error.text


@pytest.mark.parametrize(
    "name", ["ticket", "frame", "loan", "server", "client", "mutex", "condition", "segment", "memlane.WaitSet()"]
)
def test_what_belongs_to_its_process_is_not_passed(parent, name: str) -> None:
    for how in (f"in_another_process('spawn', print, {name})", f"pickle.dumps({name})"):
        assert "TypeError" in parent.fails(how).kinds


def test_a_pool_of_processes_works_on_what_it_is_told_by_name(place: Place) -> None:
    peer = place.peer(alone=True)
    peer.ask("memory = memlane.SharedMemory('memory', create=True, size=64)")
    peer.ask("""
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.starmap(write, [("memory", bytes([number])) for number in (1, 2, 3)])
    """)
    assert peer.ask("memory.buf[0]") in (1, 2, 3)
