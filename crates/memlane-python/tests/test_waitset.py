"""Several receivers are waited for together."""

from concurrent.futures import ThreadPoolExecutor

import memlane
import numpy as np
import pytest
from place import HANG, Place

VALUE = np.array([1])


@pytest.fixture
def channels(place: Place):
    senders = [memlane.Sender(f"cam{index}") for index in range(3)]
    receivers = [memlane.Receiver(f"cam{index}") for index in range(3)]
    yield senders, receivers
    for it in (*senders, *receivers):
        it.close()


def test_it_says_which_have_something(channels) -> None:
    senders, receivers = channels
    waits = memlane.WaitSet()
    keys = [waits.add(receiver) for receiver in receivers]
    assert len(waits) == 3 and len(set(keys)) == 3
    assert waits.wait(0) == [] and waits.wait(0.02) == []
    senders[1].send(VALUE)
    assert waits.wait(HANG) == [keys[1]]
    assert waits.wait() == [keys[1]]  # nothing was received
    senders[2].send(VALUE)
    assert sorted(waits.wait(HANG)) == sorted(keys[1:])
    receivers[1].recv(HANG)
    receivers[2].recv(HANG)
    assert waits.wait(0) == []


def test_a_message_from_another_process_ends_a_wait(place: Place, channels) -> None:
    senders, receivers = channels
    senders[0].close()
    peer = place.peer()
    peer.ask("sender = memlane.Sender.open('cam0')")
    waits = memlane.WaitSet()
    keys = [waits.add(receiver) for receiver in receivers]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(waits.wait)
        peer.ask("sender.send(np.array([5]))")
        assert waiting.result(HANG) == [keys[0]]
    assert receivers[0].recv(HANG).array.tolist() == [5]


def test_a_killed_sender_is_something_to_be_received(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    with memlane.Receiver("cam") as receiver, ThreadPoolExecutor(1) as threads:
        waits = memlane.WaitSet()
        key = waits.add(receiver)
        waiting = threads.submit(waits.wait)
        peer.kill()
        assert waiting.result(HANG) == [key]
        with pytest.raises(memlane.SenderDied):
            receiver.recv(0)
        waits.remove(key)


def test_it_can_be_woken(channels) -> None:
    _, receivers = channels
    waits = memlane.WaitSet()
    waits.add(receivers[0])
    waits.wake()
    assert waits.wait() == []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(waits.wait)
        waits.wake()
        assert waiting.result(HANG) == []


def test_receivers_come_and_go_while_another_thread_waits(channels) -> None:
    senders, receivers = channels
    waits = memlane.WaitSet()
    first = waits.add(receivers[0])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(waits.wait)
        second = waits.add(receivers[1])
        assert waits.remove(first) and not waits.remove(first)
        assert len(waits) == 1
        senders[0].send(VALUE)
        senders[1].send(VALUE)
        ready = waiting.result(HANG)
        assert ready in ([second], [first], []) and first != second
    assert waits.wait(HANG) == [second]


def test_what_is_no_receiver_is_refused(channels) -> None:
    senders, _ = channels
    for wrong in (senders[0], None, 5):
        with pytest.raises(TypeError):
            memlane.WaitSet().add(wrong)
