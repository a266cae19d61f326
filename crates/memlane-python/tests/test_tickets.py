"""A ticket says what has become of a message, and who did it."""

from concurrent.futures import ThreadPoolExecutor

import memlane
import numpy as np
import pytest
from place import HANG, Peer, Place

VALUE = np.array([1])


def receiving(place: Place) -> Peer:
    peer = place.peer()
    peer.ask("receiver = memlane.Receiver('cam')")
    return peer


def outcomes(handled: list[memlane.Handled]) -> set[tuple[int, str]]:
    assert all(it.who for it in handled)
    return {(it.who.pid, it.outcome) for it in handled if it.who}


def test_a_ticket_says_what_each_receiver_did(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        processes, gives_back, passes_over, dies = (receiving(place) for _ in range(4))
        ticket = sender.send(VALUE)
        assert ticket.sequence == 1 and not ticket.is_processed
        processes.ask("receiver.recv(20).release()")
        gives_back.ask("receiver.recv(20).give_back()")
        sender.send(VALUE)
        passes_over.ask("receiver.latest().release()")
        dies.ask("frame = receiver.recv(20)")
        dies.kill()
        assert outcomes(ticket.wait(HANG)) == {
            (processes.pid, "processed"),
            (gives_back.pid, "gave back"),
            (passes_over.pid, "skipped"),
            (dies.pid, "died"),
        }
        assert ticket.is_processed


def test_a_receiver_that_closes_has_skipped_what_it_did_not_take(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place)
        first, second = sender.send(VALUE), sender.send(VALUE)
        peer.ask("frame = receiver.recv(20); receiver.close()")
        assert outcomes(second.wait(HANG)) == {(peer.pid, "skipped")}
        with pytest.raises(memlane.TimedOut, match=f"{peer.pid}"):
            first.wait(0.02)  # it holds the frame still
        peer.ask("frame.release()")
        assert outcomes(first.wait(HANG)) == {(peer.pid, "processed")}


def test_a_wait_ends_when_the_receiver_is_killed_meanwhile(place: Place) -> None:
    with memlane.Sender("cam") as sender, ThreadPoolExecutor(1) as threads:
        peer = receiving(place)
        ticket = sender.send(VALUE)
        peer.ask("frame = receiver.recv(20)")
        waiting = threads.submit(ticket.wait)
        peer.kill()
        assert outcomes(waiting.result(HANG)) == {(peer.pid, "died")}
        assert not ticket.is_processed


def test_a_timeout_names_who_has_not_answered(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        done, slow = receiving(place), receiving(place)
        ticket = sender.send(VALUE)
        done.ask("receiver.recv(20).release()")
        for timeout in (0, 0.02):
            with pytest.raises(memlane.TimedOut, match=f"message 1 of 'cam'.*pid {slow.pid}") as error:
                ticket.wait(timeout)
            assert f"pid {done.pid}" not in str(error.value)
            assert isinstance(error.value, TimeoutError)
        slow.ask("receiver.recv(20).release()")
        assert len(ticket.wait(HANG)) == 2


def test_nobody_has_to_answer_for_what_was_sent_to_nobody(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        ticket = sender.send(VALUE)
        assert ticket.wait(0) == []
        assert not ticket.is_processed
        with pytest.raises(memlane.TimedOut, match="'cam'"):
            ticket.wait_processed(0.02)
        receiving(place).ask("receiver.recv(20).release()")
        ticket.wait_processed(HANG)
        assert ticket.is_processed


def test_one_that_processed_is_enough(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        first, second = receiving(place), receiving(place)
        ticket = sender.send(VALUE)
        first.ask("receiver.recv(20).give_back()")
        assert not ticket.is_processed
        second.ask("receiver.recv(20).release()")
        ticket.wait_processed(HANG)
        assert ticket.is_processed


def test_the_ticket_of_a_queue_names_who_processed_it(place: Place) -> None:
    with memlane.Sender("cam", policy="queue") as sender:
        ticket = sender.send(VALUE)
        with pytest.raises(memlane.TimedOut, match="'cam'"):
            ticket.wait(0.02)
        dies, gives_back, processes = receiving(place), receiving(place), receiving(place)
        dies.ask("frame = receiver.recv(20)")
        dies.kill()
        gives_back.ask("receiver.recv(20).give_back()")
        processes.ask("receiver.recv(20).release()")
        assert outcomes(ticket.wait(HANG)) == {(processes.pid, "processed")}


def test_what_was_overwritten_is_known_not_to_be_processed(place: Place) -> None:
    with memlane.Sender("cam", policy="newest", slots=2) as sender:
        ticket = sender.send(VALUE)
        for _ in range(4):
            sender.send(VALUE)
        assert not ticket.is_processed
        with pytest.raises(memlane.TimedOut):
            ticket.wait_processed()


def test_a_ticket_outlives_its_sender(place: Place) -> None:
    sender = memlane.Sender("cam")
    peer = receiving(place)
    ticket = sender.send(VALUE)
    sender.close()
    del sender
    peer.ask("receiver.recv(20).release()")
    assert outcomes(ticket.wait(HANG)) == {(peer.pid, "processed")}


def test_the_loan_that_was_sent_has_its_ticket(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        loan = sender.loan_array(3)
        assert loan.ticket is None
        with loan as pixels:
            pixels[...] = 1
        assert loan.ticket is not None and loan.ticket.sequence == 1
        receiver.recv(HANG).release()
        assert [it.outcome for it in loan.ticket.wait(HANG)] == ["processed"]


def test_a_block_says_how_it_ended_although_its_array_has_a_name(place: Place) -> None:
    with memlane.Sender("cam", policy="queue") as sender, memlane.Receiver("cam") as receiver:
        ticket = sender.send([1, 2, 3])
        with pytest.raises(KeyError), receiver.recv(HANG) as frame:
            image = frame.array
            raise KeyError
        assert not ticket.is_processed
        with receiver.recv(HANG) as frame:
            again = frame.array
            assert frame.deliveries == 2
        assert ticket.is_processed
        assert image.tolist() == again.tolist() == [1, 2, 3]
