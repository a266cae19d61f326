"""Nothing grows, however many frames go by, and no order of letting go upsets the interpreter."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import memlane
import numpy as np
import pytest
from place import HANG, LONG, Place

COUNT = 100_000 if LONG else 10_000
STRESS = Path(__file__).with_name("stress.py")


@pytest.mark.parametrize("message", ["tensor", "bytes"])
def test_many_small_frames_need_no_more_memory_than_few(place: Place, message: str) -> None:
    with memlane.Sender("cam", message=message, max_message=512) as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('cam')")
        peer.start(f"steady({COUNT}, lambda: receiver.recv(20).release())")
        data = b"x" * 40 if message == "bytes" else np.arange(40, dtype="u1")
        for _ in range(COUNT):
            sender.send(data, timeout=HANG)
        before, after, descriptors_before, descriptors_after = peer.result()
        assert after - before < 1 << 20, "the receiver's memory grows"
        assert descriptors_after == descriptors_before
        assert [it.claims for it in sender.receivers()] == [0]


LOOPS = {
    "send": "sender.send(array, timeout=20); receiver.recv(20).release()",
    "loans": """
        with sender.loan_array(40) as pixels:
            pixels[...] = 3
        receiver.recv(20).release()
    """,
    "views": """
        sender.send(array, timeout=20, metadata=b"some", schema_id=3)
        frame = receiver.recv(20)
        views = [frame.array, frame.array[1:], memoryview(frame), np.from_dlpack(frame), frame.metadata]
        del frame
        views.clear()
    """,
    "discards": "sender.loan_array(40).discard(); sender.loan_array(40).array[...] = 1",
    "tickets": "ticket = sender.send(array, timeout=20); receiver.latest().release(); ticket.wait(20)",
    "capsules": "sender.send(array, timeout=20); receiver.recv(20).__dlpack__(max_version=(1, 0))",
    "errors": """
        for wrong, argument in ((receiver.recv, 0), (memlane.Receiver, "nothing"), (sender.loan_array, 1 << 30)):
            try:
                wrong(argument)
            except memlane.Error:
                pass
    """,
    "openings": """
        other = memlane.Receiver("cam")
        sender.send(array, timeout=20)
        other.recv(20).release()
        receiver.recv(20).release()
        other.close()
        with memlane.SharedMemory("memory", create=True, size=100) as memory:
            memlane.SharedMemory("memory").buf[0] = 1
    """,
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_a_loop_over_it_leaks_neither_memory_nor_descriptors(place: Place, loop: str) -> None:
    peer = place.peer()
    peer.ask("sender, array = memlane.Sender('cam', max_message=512), np.arange(40, dtype='u1')")
    peer.ask("receiver = memlane.Receiver('cam')")
    peer.ask("def body():\n    " + "\n    ".join(textwrap.dedent(loop).strip("\n").splitlines()))
    count = COUNT // 10 if loop == LOOPS["openings"] else COUNT
    before, after, descriptors_before, descriptors_after = peer.ask(f"steady({count}, body)")
    assert after - before < 1 << 20, "its memory grows"
    assert descriptors_after == descriptors_before
    assert peer.ask("[it.claims for it in sender.receivers()]") == [0]


def test_threads_receive_from_different_receivers_at_once(place: Place) -> None:
    count = COUNT // 50
    sums: dict[int, int] = {}
    with memlane.Sender("cam") as sender:
        receivers = [memlane.Receiver("cam") for _ in range(3)]

        def receive(index: int) -> None:
            sums[index] = sum(int(frame.array.sum()) for frame in receivers[index])

        threads = [threading.Thread(target=receive, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for number in range(count):
            sender.send(np.full(100, number), timeout=HANG)
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive()
    assert sums == dict.fromkeys(range(3), 100 * sum(range(count)))
    for receiver in receivers:
        receiver.close()


@pytest.mark.parametrize("options", [["-X", "dev"], []], ids=["development mode", "debug allocator"])
def test_a_stress_of_everything_upsets_no_checks_of_the_interpreter(
    place: Place, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    rounds = 3000 if LONG else 300
    command = [sys.executable, *options, "-W", "error", str(STRESS), str(rounds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG * (10 if LONG else 1))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{rounds} rounds\n"
