"""kill -9 of either side at any time: the other goes on, every frame is whole, and nothing is left."""

import random
import select

import memlane
import numpy as np
import pytest
from peers import numbered
from place import HANG, LONG, Place

ROUNDS = 100 if LONG else 15
SIZE = 30_011
CHANCE = random.Random(20)

SEND = f"""
for _ in range(1 << 60):
    loan = sender.loan_array({SIZE})
    sequence = sender.senders()[0].sent + 1
    loan.array[...] = numbered(sequence, {SIZE})
    assert loan.send().sequence == sequence
"""
RECEIVE = f"""
for _ in range(1 << 60):
    frame = receiver.recv()
    assert (frame.array == numbered(frame.sequence, {SIZE})).all(), "torn"
    said = (frame.sequence, frame.deliveries)
    del frame
    say(said)
"""


def pause() -> None:
    """Let some random time pass: a death is to come at any point."""
    select.select([], [], [], CHANCE.uniform(0, 0.02))


def whole(frame: memlane.Frame) -> int:
    assert (frame.array == numbered(frame.sequence, SIZE)).all(), "torn"
    return frame.sequence


@pytest.mark.parametrize("policy", ["lossless", "newest"])
def test_a_receiver_goes_on_when_senders_are_killed(place: Place, policy: memlane.Policy) -> None:
    last, deaths = 0, 0
    options = f"max_message={SIZE}, policy={policy!r}"
    sender = place.peer()
    sender.ask(f"sender = memlane.Sender('cam', {options})")
    with memlane.Receiver("cam") as receiver:
        while deaths < ROUNDS:
            sender.start(SEND)
            for _ in range(CHANCE.randrange(20)):
                frame = receiver.recv(HANG)
                sequence = whole(frame)
                assert sequence == last + 1 + frame.missed
                last = sequence
                del frame
            pause()
            sender.kill()
            deaths += 1
            with pytest.raises(memlane.SenderDied, match=f"{sender.pid}"):
                while True:
                    frame = receiver.recv(HANG)
                    sequence = whole(frame)
                    assert sequence == last + 1 + frame.missed
                    last = sequence
                    del frame
            sender = place.peer()
            sender.ask("sender = memlane.Sender.open('cam')")
            receiver.wait_for_sender(HANG)
        assert last > 0
        if policy == "lossless":
            assert sender.ask("sender.senders()[0].sent") == last


@pytest.mark.parametrize("policy", ["lossless", "newest", "queue"])
def test_a_sender_goes_on_when_receivers_are_killed(place: Place, policy: memlane.Policy) -> None:
    with memlane.Sender("cam", max_message=SIZE, policy=policy, receivers=2) as sender:
        others = 0
        for _ in range(ROUNDS):
            receiver = place.peer()
            receiver.ask("receiver = memlane.Receiver('cam')")
            receiver.start(RECEIVE)
            for _ in range(1 + CHANCE.randrange(15)):
                send_next(sender)
            if policy != "newest":
                sequence, deliveries = receiver.heard()
                others += deliveries > 1
            pause()
            receiver.kill()
        receiver = place.peer()
        receiver.ask("receiver = memlane.Receiver('cam')")
        ticket = send_next(sender)
        receiver.start(RECEIVE)
        ticket.wait_processed(HANG)
        while receiver.heard()[0] < ticket.sequence:
            pass
        assert [it.claims for it in sender.receivers()] == [0]
        receiver.kill()


def send_next(sender: memlane.Sender) -> memlane.Ticket:
    """Send the next message; if its last receiver dies meanwhile, it is kept for another."""
    sequence = sender.senders()[0].sent + 1
    loan = sender.loan_array(SIZE)
    loan.array[...] = numbered(sequence, SIZE)
    ticket = loan.send(HANG)
    assert ticket.sequence == sequence
    return ticket


def test_a_counter_survives_its_killed_holders(place: Place) -> None:
    with memlane.SharedMemory("memory", create=True, size=64) as memory:
        mutex = memlane.Mutex(memory)
        pair = np.frombuffer(memory.buf, "<u8", count=2, offset=16)
        repaired = 0
        for _ in range(ROUNDS):
            peer = place.peer()
            peer.ask("""
                memory = memlane.SharedMemory("memory")
                mutex = memlane.Mutex(memory)
                pair = np.frombuffer(memory.buf, "<u8", count=2, offset=16)
            """)
            peer.start("""
                say("begins")
                for _ in range(1 << 60):
                    with mutex:
                        pair[0] += 1
                        pair[1] += 1
            """)
            peer.heard()
            pause()
            peer.kill()
            try:
                with mutex:
                    assert pair[0] == pair[1]
            except memlane.OwnerDied:
                repaired += 1
                with mutex.repair():
                    assert pair[0] - pair[1] in (0, 1)
                    pair[1] = pair[0]
        with mutex:
            assert pair[0] == pair[1] > 0
        del pair


def test_processes_that_are_killed_leave_nothing_once_it_was_collected(place: Place) -> None:
    for number in range(5):
        peer = place.peer()
        peer.ask(f"""
            sender = memlane.Sender("cam{number}")
            server = memlane.Server("service{number}")
            memory = memlane.SharedMemory("memory{number}", create=True, size=100)
            segment = memlane.Segment("segment{number}", [("x", "u8")], create=True)
        """)
        if number == 0:
            there = {it.name: it for it in memlane.objects()}
            assert set(there) == {"cam0", "service0", "memory0", "segment0"}
            for it in there.values():
                assert [who.pid for who in it.users] == [peer.pid] and not it.dead and not it.kept and it.size > 0
            assert memlane.gc() == []
        peer.kill()
    dead = {it.name for it in memlane.objects() if it.dead}
    assert dead and dead == set(place.names())
    assert set(memlane.gc(dry_run=True)) == dead == set(place.names())
    assert set(memlane.gc()) == dead and place.names() == []
