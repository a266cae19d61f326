"""Mutexes and conditions in shared memory: no death of a holder blocks anybody, and nobody overlooks it."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import memlane
import pytest
from place import HANG, Peer, Place

OPEN = """
memory = memlane.SharedMemory("memory")
mutex = memlane.Mutex(memory)
condition = memlane.Condition(memory, 8, mutex)
counter = memory.buf[16:24].cast("q")
"""


@pytest.fixture
def memory(place: Place) -> Iterator[memlane.SharedMemory]:
    with memlane.SharedMemory("memory", create=True, size=64) as memory:
        yield memory


def locking(place: Place) -> Peer:
    peer = place.peer()
    peer.ask(OPEN)
    return peer


def count(memory: memlane.SharedMemory) -> int:
    return int.from_bytes(memory.buf[16:24], "little")


def test_four_processes_count_together(place: Place, memory: memlane.SharedMemory) -> None:
    peers = [locking(place) for _ in range(4)]
    for peer in peers:
        peer.start("""
            for _ in range(2000):
                with mutex as guarded:
                    assert guarded is None and mutex.locked
                    counter[0] = counter[0] + 1
        """)
    for peer in peers:
        peer.result()
    assert count(memory) == 4 * 2000


def test_a_mutex_is_there_for_one_at_a_time(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    peer = locking(place)
    peer.ask("mutex.acquire()")
    for timeout in (0, 0.02):
        with pytest.raises(memlane.TimedOut, match=f"'memory'.*pid {peer.pid}") as error:
            mutex.acquire(timeout)
        assert isinstance(error.value, TimeoutError) and not mutex.locked
    peer.ask("mutex.release()")
    mutex.acquire(0)
    assert mutex.locked
    assert "TimedOut" in peer.fails("mutex.acquire(0.02)").kinds
    mutex.release()
    assert not mutex.locked


def test_who_waits_gets_the_mutex_when_it_is_released(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    peer = locking(place)
    with mutex:
        peer.start("say('waits'); mutex.acquire(); mutex.release()")
        peer.heard()
        peer.wait_asleep()
    peer.result()


def test_a_holder_that_was_killed_is_noticed_and_its_data_repaired(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    peer = locking(place)
    peer.ask("mutex.acquire()")
    peer.kill()
    for _ in range(2):  # until somebody has repaired it
        for enter in (mutex.acquire, lambda: mutex.acquire(HANG), mutex.__enter__):
            with pytest.raises(memlane.OwnerDied, match="'memory'") as error:
                enter()
            assert isinstance(error.value, RuntimeError) and not mutex.locked
    with mutex.repair() as guarded:
        assert guarded is None and mutex.locked
    assert not mutex.locked
    with mutex:
        assert mutex.locked


def test_who_waits_is_told_that_the_holder_was_killed(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    holder, waiter = locking(place), locking(place)
    holder.ask("mutex.acquire()")
    waiter.start("say('waits'); mutex.acquire()")
    waiter.heard()
    waiter.wait_asleep()
    holder.kill()
    assert "OwnerDied" in waiter.failure().kinds
    with mutex.repair(HANG):
        pass
    waiter.ask("mutex.acquire(20); mutex.release()")


def test_a_repairer_that_is_killed_has_repaired_nothing(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    for statement in ("mutex.acquire()", "repair = mutex.repair(); repair.__enter__()"):
        peer = locking(place)
        peer.ask(statement)
        peer.kill()
        with pytest.raises(memlane.OwnerDied):
            mutex.acquire(HANG)
    with mutex.repair():
        pass
    with mutex:
        pass


def test_an_exception_that_leaves_the_block_counts_as_a_death(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    with pytest.raises(LookupError), mutex:
        raise LookupError
    assert not mutex.locked
    peer = locking(place)
    assert "OwnerDied" in peer.fails("mutex.acquire()").kinds
    with pytest.raises(memlane.OwnerDied):
        mutex.acquire()
    with pytest.raises(LookupError), mutex.repair():
        raise LookupError
    with pytest.raises(memlane.OwnerDied):
        mutex.acquire()
    peer.ask("with mutex.repair(): counter[0] = 1")
    with mutex:
        pass


def test_release_can_say_that_the_work_is_not_complete(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    mutex.acquire()
    mutex.release(complete=False)
    with pytest.raises(memlane.OwnerDied):
        mutex.acquire()
    with mutex.repair():
        pass
    mutex.acquire()
    mutex.release()
    mutex.acquire()
    mutex.release()


def test_repair_works_whether_or_not_somebody_died(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    with mutex.repair():
        assert mutex.locked
    peer = locking(place)
    peer.ask("mutex.acquire()")
    with pytest.raises(memlane.TimedOut, match=f"{peer.pid}"), mutex.repair(0.02):
        raise AssertionError("somebody lives who holds it")
    peer.ask("mutex.release()")


def test_a_thread_that_locks_twice_is_told(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    with mutex:
        for again in (mutex, memlane.Mutex(memory)):
            with pytest.raises(memlane.AlreadyLocked, match="'memory'") as error:
                again.acquire()
            assert isinstance(error.value, RuntimeError)
        assert mutex.locked
    with mutex:
        pass


def test_threads_lock_each_other_out(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    inside: list[int] = []

    def work() -> None:
        for _ in range(300):
            with mutex:
                inside.append(threading.get_ident())
                time.sleep(0)  # lets another thread run
                assert inside.pop() == threading.get_ident() and not inside

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(work) for _ in range(3)]:
            done.result(HANG)


def test_another_thread_cannot_unlock(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    with ThreadPoolExecutor(1) as threads, mutex:
        with pytest.raises((RuntimeError, memlane.Error)):
            threads.submit(mutex.release).result(HANG)
        assert mutex.locked
        with pytest.raises(memlane.TimedOut):
            threads.submit(mutex.acquire, 0.02).result(HANG)
    with pytest.raises((RuntimeError, memlane.Error)):
        mutex.release()


@pytest.mark.parametrize("offset", [1, 4, 60, 64, 1 << 40, -8], ids=str)
def test_a_mutex_lies_in_its_memory(memory: memlane.SharedMemory, offset: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        memlane.Mutex(memory, offset)


@pytest.mark.parametrize("offset", [1, 2, 61, 64, 1 << 40, -4], ids=str)
def test_a_condition_lies_in_its_memory(memory: memlane.SharedMemory, offset: int) -> None:
    mutex = memlane.Mutex(memory)
    with pytest.raises((ValueError, OverflowError)):
        memlane.Condition(memory, offset, mutex)


def test_mutexes_at_different_offsets_are_different(place: Place, memory: memlane.SharedMemory) -> None:
    first, second = memlane.Mutex(memory, 0), memlane.Mutex(memory, 56)
    with first, second:
        assert first.locked and second.locked
        assert "TimedOut" in locking(place).fails("memlane.Mutex(memory, 56).acquire(0)").kinds


def test_two_processes_take_turns(place: Place, memory: memlane.SharedMemory) -> None:
    peers = [locking(place) for _ in range(2)]
    for turn, peer in enumerate(peers):
        peer.start(f"""
            with mutex:
                for _ in range(200):
                    assert condition.wait_for(lambda: counter[0] % 2 == {turn}, 20)
                    counter[0] = counter[0] + 1
                    condition.notify()
        """)
    for peer in peers:
        peer.result()
    assert count(memory) == 400


def test_a_wait_that_nobody_ends_is_over_in_time(memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    condition = memlane.Condition(memory, 8, mutex)
    with mutex:
        assert condition.wait(0) is False
        assert condition.wait(0.02) is False
        assert not condition.wait_for(lambda: False, 0.02)
        assert condition.wait_for(lambda: [1], 0) == [1]
        assert mutex.locked
    with mutex:
        pass


def test_notify_all_wakes_everybody(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    condition = memlane.Condition(memory, 8, mutex)
    peers = [locking(place) for _ in range(3)]
    for peer in peers:
        peer.start("with mutex: say('waits'); ended = condition.wait_for(lambda: counter[0] == 5)")
        peer.heard()
        peer.wait_asleep()
    with mutex:
        memory.buf[16] = 5
        condition.notify_all()
    for peer in peers:
        peer.result()
        assert peer.ask("ended") is True


def test_a_wait_needs_the_mutex(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    condition = memlane.Condition(memory, 8, mutex)
    with pytest.raises((RuntimeError, memlane.Error)):
        condition.wait(0)
    condition.notify()
    condition.notify_all()


def test_an_exception_of_the_predicate_leaves_the_mutex_held(memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    condition = memlane.Condition(memory, 8, mutex)
    mutex.acquire()
    with pytest.raises(ZeroDivisionError):
        condition.wait_for(lambda: 1 / 0)
    assert mutex.locked
    mutex.release()


def test_a_wait_says_that_a_holder_was_killed_meanwhile(place: Place, memory: memlane.SharedMemory) -> None:
    mutex = memlane.Mutex(memory)
    waiter, holder = locking(place), locking(place)
    waiter.start("mutex.acquire(); say('waits'); condition.wait()")
    waiter.heard()
    waiter.wait_asleep()
    holder.ask("mutex.acquire(20); condition.notify_all()")
    holder.kill()
    assert "OwnerDied" in waiter.failure().kinds
    assert waiter.ask("mutex.locked") is False
    with mutex.repair(HANG):
        pass


def test_only_the_thread_that_entered_leaves(place: Place) -> None:
    with memlane.SharedMemory("memory", create=True, size=64) as memory:
        mutex = memlane.Mutex(memory)
        mutex.acquire()
        refused = []

        def leave() -> None:
            try:
                mutex.__exit__(None, None, None)
            except RuntimeError as error:
                refused.append(error)

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join(HANG)
        assert len(refused) == 1 and mutex.locked
        mutex.release()


def test_a_mutex_that_its_memory_leads_to_is_collected_with_it(place: Place) -> None:
    memory = memlane.SharedMemory("memory", create=True, size=64)
    memory.mutex = memlane.Mutex(memory)
    segment = memlane.Segment("segment", memlane.struct("Value", [("value", memlane.mutex("u8"))]), create=True)
    segment.lock = segment.mutex("value")
    del memory, segment
    gc.collect()
    assert place.names() == []
