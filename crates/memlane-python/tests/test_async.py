"""Receiving in an event loop: nothing is lost by a cancellation, and a receiver takes no thread of its own."""

import asyncio
import threading

import memlane
import numpy as np
import pytest
from place import HANG, Place

OPEN = "sender = memlane.Sender.open('cam')"


@pytest.fixture(autouse=True)
def settling(place: Place) -> None:
    place.settles = True


def value(frame: memlane.Frame) -> int:
    return int(frame.array[0])


def send(sender: memlane.Sender, *values: int) -> None:
    for number in values:
        sender.send(np.array([number]), timeout=HANG)


def test_a_frame_is_awaited(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam", senders=2) as sender, memlane.Receiver("cam") as receiver:
            send(sender, 1)
            assert value(await receiver.recv_async()) == 1
            peer = place.peer()
            peer.ask(OPEN)
            waiting = asyncio.create_task(receiver.recv_async())
            await asyncio.sleep(0)
            peer.ask("sender.send(np.array([2]))")
            assert value(await asyncio.wait_for(waiting, HANG)) == 2

    asyncio.run(receive())


def test_others_go_on_while_a_frame_is_awaited(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
            waiting = asyncio.create_task(receiver.recv_async())
            for _ in range(100):
                await asyncio.sleep(0)
                assert not waiting.done()
            send(sender, 1)
            assert value(await asyncio.wait_for(waiting, HANG)) == 1

    asyncio.run(receive())


def test_async_for_ends_when_every_sender_has_closed(place: Place) -> None:
    async def receive() -> list[int]:
        with memlane.Receiver("cam", timeout=HANG) as receiver:
            return [value(frame) async for frame in receiver]

    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    peer.start("for number in range(100): sender.send(np.array([number]), timeout=20)\nsender.close()")
    assert asyncio.run(receive()) == list(range(100))
    peer.result()


def test_a_killed_sender_ends_an_await(place: Place) -> None:
    async def receive() -> None:
        with memlane.Receiver("cam") as receiver:
            waiting = asyncio.create_task(receiver.recv_async())
            await asyncio.sleep(0)
            peer.kill()
            with pytest.raises(memlane.SenderDied, match=f"{peer.pid}"):
                await asyncio.wait_for(waiting, HANG)
            with pytest.raises(memlane.SenderDied):
                async for _ in receiver:
                    raise AssertionError("nothing was sent")

    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    asyncio.run(receive())


def test_a_closed_channel_ends_an_await(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
            waiting = asyncio.create_task(receiver.recv_async())
            await asyncio.sleep(0)
            sender.close()
            with pytest.raises(memlane.Closed):
                await asyncio.wait_for(waiting, HANG)

    asyncio.run(receive())


def test_who_cancels_has_received_nothing_and_lost_nothing(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
            for number in range(20):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(receiver.recv_async(), 0.001)
                assert [it.claims for it in sender.receivers()] == [0]
                send(sender, number)
                frame = await asyncio.wait_for(receiver.recv_async(), HANG)
                assert (value(frame), frame.sequence) == (number, number + 1)
                del frame

    asyncio.run(receive())


def test_a_cancellation_at_any_moment_loses_nothing(place: Place) -> None:
    """Cancelled while messages come: each is received once, by an await that was not cancelled."""

    async def receive() -> list[int]:
        got = []
        with memlane.Receiver("cam", timeout=HANG) as receiver:
            while True:
                task = asyncio.create_task(receiver.recv_async())
                for _ in range(len(got) % 4):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got.append(value(await task))
                except asyncio.CancelledError:
                    try:
                        got.append(value(await receiver.recv_async()))
                    except memlane.Closed:
                        return got
                except memlane.Closed:
                    return got

    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    peer.start("for number in range(300): sender.send(np.array([number]), timeout=20)\nsender.close()")
    assert asyncio.run(receive()) == list(range(300))
    peer.result()


def test_fifty_receivers_share_a_few_threads(place: Place) -> None:
    async def receive() -> None:
        before = threading.active_count()
        senders = [memlane.Sender(f"cam{index}", receivers=1) for index in range(50)]
        receivers = [memlane.Receiver(f"cam{index}") for index in range(50)]
        tasks = [asyncio.create_task(receiver.recv_async()) for receiver in receivers]
        for _ in range(10):
            await asyncio.sleep(0)
        assert threading.active_count() - before <= 3
        for round_ in range(3):
            for index in reversed(range(50)):
                send(senders[index], 100 * round_ + index)
            frames = await asyncio.wait_for(asyncio.gather(*tasks), HANG)
            assert [value(frame) for frame in frames] == [100 * round_ + index for index in range(50)]
            del frames
            tasks = [asyncio.create_task(receiver.recv_async()) for receiver in receivers]
        assert threading.active_count() - before <= 3
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(it, asyncio.CancelledError) for it in ended)
        for it in (*senders, *receivers):
            it.close()

    asyncio.run(receive())


def test_a_receiver_is_used_by_one_loop_after_another(place: Place) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:

        async def receive() -> int:
            return value(await asyncio.wait_for(receiver.recv_async(), HANG))

        for number in range(5):
            send(sender, number)
            assert asyncio.run(receive()) == number
        send(sender, 9)
        assert value(receiver.recv(HANG)) == 9


def test_loops_of_several_threads_receive_at_once(place: Place) -> None:
    results: dict[int, list[int]] = {}
    with memlane.Sender("cam") as sender:
        receivers = [memlane.Receiver("cam") for _ in range(3)]

        async def receive(index: int) -> None:
            results[index] = [value(frame) async for frame in receivers[index]]

        threads = [threading.Thread(target=lambda index=index: asyncio.run(receive(index))) for index in range(3)]
        for thread in threads:
            thread.start()
        send(sender, *range(100))
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive()
    assert results == dict.fromkeys(range(3), list(range(100)))
    for receiver in receivers:
        receiver.close()


def test_a_loop_that_ends_leaves_no_wait_behind(place: Place) -> None:
    async def begin(receiver: memlane.Receiver) -> None:
        asyncio.create_task(receiver.recv_async())  # noqa: RUF006 - the loop ends it
        await asyncio.sleep(0.001)

    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        asyncio.run(begin(receiver))
        send(sender, 5)
        assert value(receiver.recv(HANG)) == 5


def test_too_many_held_frames_end_an_await(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam", claims=1) as sender, memlane.Receiver("cam") as receiver:
            send(sender, 1, 2)
            held = await receiver.recv_async()
            with pytest.raises(memlane.ClaimsInUse):
                await asyncio.wait_for(receiver.recv_async(), HANG)
            held.release()
            assert value(await receiver.recv_async()) == 2

    asyncio.run(receive())


def test_a_closed_receiver_cannot_be_awaited(place: Place) -> None:
    async def receive() -> None:
        with memlane.Sender("cam"):
            receiver = memlane.Receiver("cam")
            receiver.close()
            with pytest.raises(memlane.Released):
                await receiver.recv_async()

    asyncio.run(receive())


def test_a_receiver_that_is_closed_while_it_is_awaited_says_so(place: Place) -> None:
    async def main() -> None:
        with memlane.Sender("cam"):
            receiver = memlane.Receiver("cam")
            waiting = asyncio.ensure_future(receiver.recv_async())
            while not memlane._receiver._the_waiter()._waiting:
                await asyncio.sleep(0)
            receiver.close()
            with pytest.raises(memlane.Released):
                await asyncio.wait_for(waiting, HANG)

    asyncio.run(main())
