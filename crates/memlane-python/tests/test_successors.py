"""Channels outlive their senders: deaths, successors, names that are removed, channels that are kept."""

from concurrent.futures import ThreadPoolExecutor

import memlane
import numpy as np
import pytest
from place import HANG, Place


def send(sender: memlane.Sender, *values: int) -> list[memlane.Ticket]:
    return [sender.send(np.array([value]), timeout=HANG) for value in values]


def value(frame: memlane.Frame | None) -> int:
    assert frame is not None
    return int(frame.array[0])


def test_a_killed_sender_is_named_after_all_it_sent_and_has_a_successor(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam'); [sender.send(np.array([it])) for it in (1, 2)]")
    with memlane.Receiver("cam") as receiver:
        peer.kill()
        assert [value(receiver.recv(HANG)) for _ in range(2)] == [1, 2]
        for died in (receiver.recv, lambda: receiver.recv(HANG), lambda: next(receiver), receiver.wait):
            with pytest.raises(memlane.SenderDied, match=f"{peer.pid}.*'cam'") as error:
                died()
            assert isinstance(error.value, ConnectionResetError)
        with pytest.raises(memlane.TimedOut):
            receiver.wait_for_sender(0.02)
        successor = place.peer()
        successor.ask("sender = memlane.Sender.open('cam')")
        receiver.wait_for_sender(HANG)
        assert successor.ask("sender.send(np.array([3])).sequence") == 3
        frame = receiver.recv(HANG)
        assert (value(frame), frame.sequence, frame.missed) == (3, 3, 0)


def test_a_receiver_that_sleeps_is_told_that_its_sender_was_killed(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    with memlane.Receiver("cam") as receiver, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(receiver.recv)
        peer.kill()
        with pytest.raises(memlane.SenderDied, match=f"{peer.pid}"):
            waiting.result(HANG)


def test_a_channel_can_be_taken_over_by_creating_it_again(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam'); sender.send(np.array([1]))")
    with memlane.Receiver("cam") as receiver:
        assert value(receiver.recv(HANG)) == 1
        with pytest.raises(memlane.AlreadyExists, match=f"'cam'.*{peer.pid}"):
            memlane.Sender("cam")
        peer.kill()
        with memlane.Sender("cam") as sender:
            assert sender.id == receiver.id
            assert send(sender, 2)[0].sequence == 2
            assert value(receiver.recv(HANG)) == 2


def test_open_or_create_opens_what_is_there(place: Place) -> None:
    with memlane.Sender.open_or_create("cam", senders=2, max_message=512) as first:
        with memlane.Sender.open_or_create("cam", senders=5, max_message=9) as second:
            assert (first.id, second.max_message) == (second.id, 512)


def test_a_name_that_was_removed_is_free_and_the_channel_goes_on(place: Place) -> None:
    with memlane.Sender("cam") as old, memlane.Receiver("cam") as receiver:
        old.remove_name()
        assert place.names() == []
        with memlane.Sender("cam") as new:
            assert new.id != old.id
            send(old, 1)
            assert value(receiver.recv(HANG)) == 1


def test_a_channel_that_is_kept_stays_with_what_nobody_processed(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam', keep=True); sender.send(np.array([1])); sender.close()")
    assert place.names() == ["cam"] and memlane.gc() == []
    with memlane.Receiver("cam") as receiver:
        assert value(receiver.recv(HANG)) == 1
    memlane.remove("cam")
    assert place.names() == []
