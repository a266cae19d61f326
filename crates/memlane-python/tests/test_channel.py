"""What a receiver gets, by each policy, and what happens when it is slow or killed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import memlane
import numpy as np
import pytest
from place import HANG, Peer, Place, wait_until

OPEN = "receiver = memlane.Receiver('cam', timeout=20)"


def receiving(place: Place) -> Peer:
    peer = place.peer()
    peer.ask(OPEN)
    return peer


def send(sender: memlane.Sender, *values: int) -> list[memlane.Ticket]:
    return [sender.send(np.array([value]), timeout=HANG) for value in values]


def value(frame: memlane.Frame | None) -> int:
    assert frame is not None
    return int(frame.array[0])


def test_everybody_gets_every_message_in_order(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peers = [receiving(place) for _ in range(3)]
        for peer in peers:
            peer.start("[(int(frame.array[0]), frame.sequence, frame.missed) for frame in receiver]")
        send(sender, *range(100, 150))
    for peer in peers:
        assert peer.result() == [[100 + index, index + 1, 0] for index in range(50)]


def test_a_receiver_can_come_before_its_sender(place: Place) -> None:
    peer = place.peer()
    peer.start(OPEN + "; say(int(receiver.recv(20).array[0]))")
    peer.wait_asleep()
    with memlane.Sender("cam") as sender:
        send(sender, 7)
        assert peer.heard() == 7
        peer.result()


def test_what_nobody_processed_is_there_for_who_comes_later(place: Place) -> None:
    with memlane.Sender("cam", slots=4) as sender:
        send(sender, 1, 2, 3)
        peer = receiving(place)
        assert peer.ask("[int(receiver.recv(20).array[0]) for _ in range(3)]") == [1, 2, 3]


def test_newest_never_waits_and_says_how_many_were_missed(place: Place) -> None:
    with memlane.Sender("cam", policy="newest", slots=4) as sender:
        peer = receiving(place)
        send(sender, *range(1, 31))
        got = peer.ask("""[(int(frame.array[0]), frame.sequence, frame.missed)
            for frame in iter(receiver.try_recv, None)]""")
        assert all(number == sequence for number, sequence, _ in got)
        assert 1 <= len(got) <= 4 and got[-1][1] == 30
        before = 0
        for _, sequence, missed in got:
            assert sequence == before + missed + 1
            before = sequence
        assert sender.receivers()[0].missed == 30 - len(got)


def test_a_full_channel_names_its_slowest_receiver_and_sends_nothing(place: Place) -> None:
    with memlane.Sender("cam", slots=2) as sender:
        fast, slow = receiving(place), receiving(place)
        send(sender, 1, 2)
        assert fast.ask("[int(receiver.recv(20).array[0]) for _ in range(2)]") == [1, 2]
        for timeout in (0, 0.02):
            with pytest.raises(memlane.Full, match=f"'cam'.*pid {slow.pid}") as full:
                sender.send(np.array([3]), timeout=timeout)
            assert f"{fast.pid}" not in str(full.value)
            assert isinstance(full.value, TimeoutError)
        assert sender.senders()[0].sent == 2
        assert slow.ask("int(receiver.recv(20).array[0])") == 1
        send(sender, 4)
        assert fast.ask("int(receiver.recv(20).array[0])") == 4
        assert slow.ask("[int(receiver.recv(20).array[0]) for _ in range(2)]") == [2, 4]


def test_a_loan_that_finds_the_channel_full_can_be_sent_later(place: Place) -> None:
    with memlane.Sender("cam", slots=1, loans=1) as sender:
        peer = receiving(place)
        send(sender, 1)
        loan = sender.loan_array(1, "i8")
        loan.array[0] = 2
        with pytest.raises(memlane.Full):
            loan.send(0)
        loan.array[0] += 1
        assert peer.ask("int(receiver.recv(20).array[0])") == 1
        assert loan.send(HANG).sequence == 2
        assert peer.ask("int(receiver.recv(20).array[0])") == 3


def test_a_sender_that_waits_is_told_that_its_last_receiver_was_killed(place: Place) -> None:
    with memlane.Sender("cam", slots=1) as sender, ThreadPoolExecutor(1) as threads:
        peer = receiving(place)
        send(sender, 1)
        waiting = threads.submit(sender.send, np.array([2]))
        peer.kill()
        with pytest.raises(memlane.NoReceiver, match="'cam'") as gone:
            waiting.result(HANG)
        assert isinstance(gone.value, BrokenPipeError)
        assert receiving(place).ask("int(receiver.recv(20).array[0])") == 1


def test_a_queue_gives_each_message_to_one_receiver(place: Place) -> None:
    with memlane.Sender("cam", policy="queue") as sender:
        peers = [receiving(place) for _ in range(3)]
        for peer in peers:
            peer.start("[(int(frame.array[0]), frame.deliveries) for frame in receiver]")
        send(sender, *range(200))
    got = [item for peer in peers for item in peer.result()]
    assert sorted(got) == [[number, 1] for number in range(200)]


def test_a_message_of_a_killed_worker_goes_to_another(place: Place) -> None:
    with memlane.Sender("cam", policy="queue") as sender:
        (ticket,) = send(sender, 1)
        for deliveries in range(1, 4):
            worker = receiving(place)
            worker.ask("frame = receiver.recv(20)")
            assert worker.ask("int(frame.array[0]), frame.deliveries") == [1, deliveries]
            worker.kill()
        last = receiving(place)
        assert last.ask("(lambda it: [int(it.array[0]), it.deliveries])(receiver.recv(20))") == [1, 4]
        handled = ticket.wait(HANG)
        assert [(it.who.pid, it.outcome) for it in handled] == [(last.pid, "processed")]


def test_a_message_that_was_given_back_goes_to_another_worker(place: Place) -> None:
    with memlane.Sender("cam", policy="queue") as sender:
        first, second = receiving(place), receiving(place)
        send(sender, 1)
        first.ask("frame = receiver.recv(20); frame.give_back()")
        assert second.ask("(lambda it: [int(it.array[0]), it.deliveries])(receiver.recv(20))") == [1, 2]
        assert first.ask("receiver.try_recv()") is None


def test_latest_passes_over_all_before_it(place: Place) -> None:
    with memlane.Sender("cam", slots=8) as sender, memlane.Receiver("cam") as receiver:
        assert receiver.latest() is None
        tickets = send(sender, 1, 2, 3, 4, 5)
        assert value(receiver.latest()) == 5
        assert receiver.latest() is None and receiver.try_recv() is None
        assert [it.outcome for ticket in tickets for it in ticket.wait(HANG)] == ["skipped"] * 4 + ["processed"]


def test_latest_works_while_as_many_are_held_as_can_be(place: Place) -> None:
    with memlane.Sender("cam", slots=8, claims=1) as sender, memlane.Receiver("cam") as receiver:
        send(sender, 1, 2, 3)
        held = receiver.recv(HANG)
        newest = receiver.latest()
        assert (value(held), value(newest)) == (1, 3)


def test_a_receiver_that_holds_too_many_is_told_and_loses_nothing(place: Place) -> None:
    with memlane.Sender("cam", slots=8, claims=2) as sender, memlane.Receiver("cam") as receiver:
        send(sender, 1, 2, 3, 4)
        held = [receiver.recv(HANG), receiver.recv(HANG)]
        for refused in (receiver.recv, receiver.try_recv, lambda: receiver.recv(0), lambda: receiver.recv_many(2)):
            with pytest.raises(memlane.ClaimsInUse, match="2 messages of 'cam'") as error:
                refused()
            assert isinstance(error.value, BufferError)
        held.pop(0).release()
        assert value(receiver.recv(HANG)) == 3
        assert value(receiver.recv(HANG)) == 4


def test_try_recv_does_not_wait(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        assert receiver.try_recv() is None
        send(sender, 1)
        assert value(receiver.try_recv()) == 1
        assert receiver.try_recv() is None
        sender.close()
        with pytest.raises(memlane.Closed):
            receiver.try_recv()


def test_rewind_goes_back_to_what_is_kept(place: Place) -> None:
    with memlane.Sender("cam", policy="newest", slots=4) as sender, memlane.Receiver("cam") as receiver:
        send(sender, 1, 2, 3)
        assert [value(receiver.recv(HANG)) for _ in range(3)] == [1, 2, 3]
        receiver.rewind()
        again = [receiver.recv(HANG), receiver.recv(HANG)]
        assert [value(frame) for frame in again] == [1, 2]
        again.clear()
        send(sender, 4, 5)
        receiver.rewind()
        assert [value(receiver.recv(HANG)) for _ in range(4)] == [2, 3, 4, 5]


def test_recv_many_takes_what_is_there(place: Place) -> None:
    with memlane.Sender("cam", slots=8, claims=5) as sender, memlane.Receiver("cam") as receiver:
        send(sender, 1, 2, 3)
        assert [value(frame) for frame in receiver.recv_many(2)] == [1, 2]
        assert [value(frame) for frame in receiver.recv_many(10)] == [3]
        send(sender, 4, 5, 6, 7, 8, 9)
        frames = receiver.recv_many(10)  # no more than can be held
        assert [value(frame) for frame in frames] == [4, 5, 6, 7, 8]
        frames.clear()
        assert [value(frame) for frame in receiver.recv_many(10)] == [9]


def test_recv_many_takes_no_more_than_it_is_asked_for(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        send(sender, 1)
        try:
            assert receiver.recv_many(0) == []
        except ValueError:
            pass
        assert value(receiver.try_recv()) == 1


def test_wait_receives_nothing(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        with pytest.raises(memlane.TimedOut, match="'cam'"):
            receiver.wait(0.02)
        send(sender, 1)
        receiver.wait(HANG)
        receiver.wait()
        assert value(receiver.try_recv()) == 1


def test_who_sends_and_receives_is_known(place: Place) -> None:
    with memlane.Sender("cam", senders=2, slots=8) as sender:
        peer, other = receiving(place), place.peer()
        other.ask("sender = memlane.Sender.open('cam'); sender.send(np.array([9]))")
        send(sender, 1, 2, 3)
        peer.ask("held = receiver.recv(20)")
        (receiver,) = sender.receivers()
        assert (receiver.who.pid, receiver.lag, receiver.missed, receiver.claims) == (peer.pid, 3, 0, 1)
        assert not receiver.who.stopped and "python" in receiver.who.name
        senders = {it.lane: (it.who.pid, it.sent) for it in sender.senders()}
        assert sorted(senders.values()) == sorted([(os.getpid(), 3), (other.pid, 1)])
        seen = peer.ask("[[it.who.pid, it.lane, it.sent] for it in receiver.senders()]")
        assert {lane: (pid, sent) for pid, lane, sent in seen} == senders
        assert peer.ask("[it.who.pid for it in receiver.receivers()]") == [peer.pid]


def test_two_senders_have_a_lane_each(place: Place) -> None:
    with memlane.Sender("cam", senders=2, slots=4) as sender, memlane.Receiver("cam") as receiver:
        peer = place.peer()
        peer.ask("sender = memlane.Sender.open('cam')")
        peer.ask("[sender.send(np.array([100 + index])).sequence for index in range(3)]")
        send(sender, 0, 1, 2)
        got: dict[int, list[tuple[int, int]]] = {}
        for _ in range(6):
            frame = receiver.recv(HANG)
            got.setdefault(frame.lane, []).append((frame.sequence, value(frame)))
            del frame
        assert sorted(got.values()) == [[(1, 0), (2, 1), (3, 2)], [(1, 100), (2, 101), (3, 102)]]
        with pytest.raises(memlane.NoRoom, match=f"'cam'.*{peer.pid}"):
            memlane.Sender.open("cam")


def test_a_sender_waits_for_receivers(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        with pytest.raises(memlane.TooFew, match="'cam' has not got 1"):
            sender.wait_for_receivers(1, 0)
        peers = [place.peer(), place.peer()]
        for peer in peers:
            peer.start(OPEN)
        sender.wait_for_receivers(2, HANG)
        assert {it.who.pid for it in sender.receivers()} == {peer.pid for peer in peers}
        for peer in peers:
            peer.result()
        with pytest.raises(memlane.TooFew, match=f"{peers[0].pid}"):
            sender.wait_for_receivers(3, 0.02)


def test_a_killed_receiver_is_not_counted(place: Place) -> None:
    with memlane.Sender("cam", receivers=1) as sender:
        peer = receiving(place)
        sender.wait_for_receivers(1, HANG)
        peer.kill()
        with pytest.raises(memlane.TooFew):
            sender.wait_for_receivers(1, 0)
        receiving(place)
        sender.wait_for_receivers(1, HANG)


def test_iterating_ends_when_every_sender_has_closed(place: Place) -> None:
    with memlane.Sender("cam", senders=2) as sender, memlane.Receiver("cam") as receiver:
        peer = place.peer()
        peer.ask("sender = memlane.Sender.open('cam'); sender.send(np.array([2])); sender.close()")
        send(sender, 1)
        sender.close()
        assert sorted(value(frame) for frame in receiver) == [1, 2]
        assert list(receiver) == []
        with pytest.raises(memlane.Closed, match="'cam'") as closed:
            receiver.recv()
        assert isinstance(closed.value, EOFError)


@pytest.mark.parametrize("claims", [1, 2])
def test_a_plain_loop_does_not_hold_its_last_frame_while_it_waits(place: Place, claims: int) -> None:
    with memlane.Sender("cam", claims=claims) as sender:
        peer = receiving(place)
        peer.start("""
            for frame in receiver:
                say(int(frame.array[0]))
        """)
        for number in range(5):
            (ticket,) = send(sender, number)
            assert peer.heard() == number
            assert [it.outcome for it in ticket.wait(HANG)] == ["processed"]
    peer.result()


def test_what_was_closed_is_not_used_any_more(place: Place) -> None:
    sender, receiver = memlane.Sender("cam"), memlane.Receiver("cam")
    assert not sender.closed and not receiver.closed
    for it in (sender, receiver):
        it.close()
        it.close()
        assert it.closed and it.name == "cam" and "cam" in repr(it)
    for call in (
        lambda: sender.send(np.arange(3)),
        lambda: sender.loan_array(3),
        sender.receivers,
        sender.senders,
        sender.wait_for_receivers,
        sender.remove_name,
        receiver.recv,
        receiver.try_recv,
        receiver.latest,
        receiver.wait,
        receiver.rewind,
        receiver.receivers,
        receiver.wait_for_sender,
        lambda: receiver.recv_many(3),
        lambda: next(receiver),
        lambda: memlane.WaitSet().add(receiver),
    ):
        with pytest.raises(memlane.Released, match="'cam'") as error:
            call()
        assert isinstance(error.value, ValueError)


def test_one_thread_at_a_time_receives(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(receiver.recv)
        wait_until("the thread has the receiver", lambda: busy(receiver))
        send(sender, 1)
        assert value(waiting.result(HANG)) == 1


def busy(receiver: memlane.Receiver) -> bool:
    """Whether another thread is in a call of this receiver."""
    try:
        assert receiver.try_recv() is None
    except memlane.Busy:
        return True
    return False


def test_threads_that_share_a_receiver_get_each_message_once(place: Place) -> None:
    got: list[int] = []
    with memlane.Sender("cam", claims=8) as sender, memlane.Receiver("cam") as receiver:

        def receive() -> None:
            while True:
                try:
                    got.append(value(receiver.recv()))
                except memlane.Busy:
                    continue
                except memlane.Closed:
                    return

        threads = [threading.Thread(target=receive) for _ in range(3)]
        for thread in threads:
            thread.start()
        send(sender, *range(100))
        sender.close()
        for thread in threads:
            thread.join(HANG)
            assert not thread.is_alive()
    assert sorted(got) == list(range(100))
