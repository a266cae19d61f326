"""A view keeps what it shows, whatever else goes, and nothing can be written or seen that is not ours any more."""

import gc
import subprocess
import sys
import weakref

import memlane
import numpy as np
import pytest
from peers import Linked
from place import HANG, Place

SHAPE = (100, 200)


def filled(sender: memlane.Sender, value: int) -> memlane.Ticket:
    return sender.send(np.full(SHAPE, value, "u1"), timeout=HANG)


def claims(sender: memlane.Sender) -> int:
    return sum(it.claims for it in sender.receivers())


def test_a_view_outlives_frame_receiver_and_sender(place: Place) -> None:
    sender = memlane.Sender("cam")
    receiver = memlane.Receiver("cam")
    filled(sender, 7)
    frame = receiver.recv(HANG)
    views = [frame.array[3:, ::2], memoryview(frame), np.asarray(frame).T]
    del frame
    receiver.close()
    del receiver
    sender.close()
    del sender
    gc.collect()
    assert all((np.asarray(view) == 7).all() for view in views)


def test_a_view_keeps_its_slot(pair) -> None:
    sender, receiver = pair
    ticket = filled(sender, 7)
    view = receiver.recv(HANG).array[50]
    assert claims(sender) == 1 and not ticket.is_processed
    for value in range(3):  # as many as there is room for
        filled(sender, value)
        assert (receiver.recv(HANG).array == value).all()
    assert (view == 7).all()
    with pytest.raises(memlane.Full):
        sender.send(np.zeros(SHAPE, "u1"), timeout=0)
    with pytest.raises(memlane.TimedOut):
        ticket.wait(0)
    del view
    assert [it.outcome for it in ticket.wait(HANG)] == ["processed"]
    assert claims(sender) == 0


def test_every_buffer_is_used_and_a_held_view_never_changes(place: Place) -> None:
    with memlane.Sender("cam", policy="newest", slots=2) as sender, memlane.Receiver("cam") as receiver:
        filled(sender, 200)
        view = receiver.recv(HANG).array.ravel()[5:]
        for value in range(100):
            filled(sender, value)
            assert (receiver.recv(HANG).array == value).all()
        assert (view == 200).all()


def test_release_refuses_while_there_is_a_view_and_keeps_the_data(pair) -> None:
    sender, receiver = pair
    ticket = filled(sender, 7)
    frame = receiver.recv(HANG)
    for view in (frame.array[1:], memoryview(frame), np.asarray(frame)):
        for _ in range(2):
            with pytest.raises(BufferError):
                frame.release()
        assert not frame.released and (np.asarray(view) == 7).all()
        assert (frame.array == 7).all() and not ticket.is_processed
        del view
    frame.release()
    assert frame.released and ticket.is_processed


def test_a_frame_that_was_released_shows_nothing(pair) -> None:
    sender, receiver = pair
    for let_go in (memlane.Frame.release, memlane.Frame.give_back):
        filled(sender, 7)
        frame = receiver.recv(HANG)
        let_go(frame)
        assert frame.released
        for look in (
            lambda frame=frame: frame.array,
            lambda frame=frame: memoryview(frame),
            lambda frame=frame: np.asarray(frame.__array_interface__),
            lambda frame=frame: frame.__dlpack__(max_version=(1, 0)),
            lambda frame=frame: bytes(frame),
        ):
            with pytest.raises((ValueError, BufferError)):
                look()
        with pytest.raises(memlane.Released) as released:
            frame.array.sum()
        assert isinstance(released.value, ValueError)


def test_letting_go_twice_is_an_error_or_nothing_but_never_another_outcome(pair) -> None:
    sender, receiver = pair
    ticket = filled(sender, 7)
    frame = receiver.recv(HANG)
    frame.give_back()
    for again in (frame.release, frame.give_back):
        try:
            again()
        except memlane.Released:
            pass
    assert [it.outcome for it in ticket.wait(HANG)] == ["gave back"]


def test_give_back_refuses_while_there_is_a_view(pair) -> None:
    sender, receiver = pair
    ticket = filled(sender, 7)
    frame = receiver.recv(HANG)
    view = frame.array
    with pytest.raises(BufferError):
        frame.give_back()
    assert (view == 7).all() and not frame.released
    del view
    frame.give_back()
    assert [it.outcome for it in ticket.wait(HANG)] == ["gave back"]


def test_a_block_releases_its_frame_or_gives_it_back(pair) -> None:
    sender, receiver = pair
    first, second = filled(sender, 1), filled(sender, 2)
    with receiver.recv(HANG) as frame:
        assert (frame.array == 1).all()
    assert frame.released and [it.outcome for it in first.wait(0)] == ["processed"]
    with pytest.raises(LookupError), receiver.recv(HANG) as frame:
        raise LookupError
    assert frame.released and [it.outcome for it in second.wait(0)] == ["gave back"]


def test_the_last_frame_that_is_dropped_was_processed(pair) -> None:
    sender, receiver = pair
    ticket = filled(sender, 1)
    frame = receiver.recv(HANG)
    del frame
    assert [it.outcome for it in ticket.wait(0)] == ["processed"]


def test_what_was_received_cannot_be_written(pair) -> None:
    sender, receiver = pair
    filled(sender, 7)
    frame = receiver.recv(HANG)
    for array in (frame.array, frame.array[2:], np.asarray(frame), np.asarray(memoryview(frame)), frame.array.T):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True
        with pytest.raises(ValueError):
            array.setflags(write=True)
    with pytest.raises(TypeError):
        memoryview(frame)[0] = 1
    assert memoryview(frame).readonly
    del array
    assert (frame.array == 7).all()


def test_frames_in_cycles_are_let_go_of_by_the_collector(pair) -> None:
    sender, receiver = pair
    gc.disable()
    try:
        tickets = []
        for value in range(2):
            tickets.append(filled(sender, value))
            frame = receiver.recv(HANG)
            array = frame.array.view(Linked)
            holder: dict[str, object] = {"array": array, "frame": frame}
            holder["self"] = holder
            array.link = holder
            gone = weakref.ref(array)
            del frame, array, holder
            assert gone() is not None
        assert claims(sender) == 2
        filled(sender, 9)
        with pytest.raises(memlane.ClaimsInUse):
            receiver.try_recv()
        gc.collect()
        assert gone() is None and claims(sender) == 0
        assert [it.outcome for ticket in tickets for it in ticket.wait(0)] == ["processed"] * 2
        assert (receiver.recv(HANG).array == 9).all()
    finally:
        gc.enable()


def test_objects_that_are_closed_while_others_use_them_go_with_the_last(place: Place) -> None:
    sender, receiver = memlane.Sender("cam"), memlane.Receiver("cam")
    ticket = filled(sender, 1)
    frame = receiver.recv(HANG)
    loan = sender.loan_array(SHAPE)
    view = frame.array
    for it in (sender, receiver):
        it.close()
    del sender, receiver, frame
    assert place.names() == ["cam"]
    loan.discard()
    del loan, view
    gc.collect()
    del ticket
    gc.collect()
    assert place.names() == []


def test_the_interpreter_ends_in_good_order_with_views_alive(place: Place) -> None:
    source = """
import memlane, numpy, sys
sender, receiver = memlane.Sender("cam"), memlane.Receiver("cam", timeout=5)
sender.send(numpy.arange(1000))
frame = receiver.recv(5)
view = frame.array[::2]
raw = memoryview(frame)
loan = sender.loan_array(100)
lent = loan.array[5:]
memory = memlane.SharedMemory("memory", create=True, size=100)
buf = memory.buf[10:]
mutex = memlane.Mutex(memory)
mutex.acquire()
segment = memlane.Segment("segment", [("x", "u8")], create=True)
record = segment.array
sys.view = view[3:]
numpy.view = sys.view
del memlane, sys.modules["memlane"], receiver, sender
assert view[1] == 2
"""
    for options in ([], ["-X", "dev"]):
        ended = subprocess.run([sys.executable, *options, "-c", source], capture_output=True, text=True, timeout=HANG)
        assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")
        memlane.gc()
        assert place.names() == []
