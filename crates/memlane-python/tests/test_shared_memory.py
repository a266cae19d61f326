"""SharedMemory behaves as multiprocessing.shared_memory.SharedMemory does in CPython's own tests, without a tracker.

After `_TestSharedMemory` in CPython's Lib/test/_test_multiprocessing.py.
"""

import pickle
import signal
import subprocess
import sys

import memlane
import numpy as np
import pytest
from peers import address, file_at
from place import HANG, Place

SharedMemory = memlane.SharedMemory
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def create(name: str | None = "memory", size: int = 512, **options: bool) -> memlane.SharedMemory:
    return SharedMemory(name, create=True, size=size, **options)


def test_its_attributes_can_be_read(place: Place) -> None:
    with create() as memory:
        assert memory.name == "memory" and isinstance(memory.name, str)
        assert memory.size == 512 == len(memory.buf) == memory.buf.nbytes
        assert "memory" in str(memory) and "512" in str(memory)
        assert (memory.buf.format, memory.buf.ndim, memory.buf.readonly) == ("B", 1, False)


def test_it_is_zero_first_and_keeps_what_is_written(place: Place) -> None:
    with create() as memory:
        assert bytes(memory.buf) == bytes(512)
        memory.buf[0] = 42
        memory.buf[-1] = 43
        assert (memory.buf[0], memory.buf[511]) == (42, 43)


def test_attachments_see_each_others_writes(place: Place) -> None:
    with create() as memory, SharedMemory("memory") as other:
        memory.buf[0] = 42
        other.buf[1] = 43
        assert bytes(memory.buf[:2]) == bytes(other.buf[:2]) == b"*+"
        assert other.size == memory.size


def test_attaching_ignores_the_size(place: Place) -> None:
    with create() as memory, SharedMemory("memory", size=20 * memory.size) as other:
        assert other.size == memory.size


@pytest.mark.parametrize("size", [1, 7, 4095, 4096, 4097, 1 << 20, 50_000_001])
def test_the_size_is_what_was_asked_for(place: Place, size: int) -> None:
    with create(size=size) as memory:
        with SharedMemory("memory") as other:
            assert memory.size == other.size == len(other.buf) == size
            other.buf[size - 1] = 9
        assert memory.buf[size - 1] == 9


@pytest.mark.parametrize("size", [0, -1, -(1 << 70)])
def test_a_size_that_is_none_is_refused(place: Place, size: int) -> None:
    for name in (None, "memory"):
        with pytest.raises((ValueError, OverflowError) if size < -1 else ValueError):
            SharedMemory(name, create=True, size=size)
    assert place.names() == []


def test_to_create_needs_a_size_and_to_attach_a_name(place: Place) -> None:
    with pytest.raises(ValueError):
        SharedMemory(create=True)
    for options in ({}, {"create": False}, {"size": 10}):
        with pytest.raises(ValueError):
            SharedMemory(**options)
    assert place.names() == []


def test_what_lies_outside_is_neither_read_nor_written(place: Place) -> None:
    with create(size=10) as memory:
        for index in (10, -11, 4096):
            with pytest.raises(IndexError):
                memory.buf[index]
            with pytest.raises(IndexError):
                memory.buf[index] = 1
        with pytest.raises(ValueError):
            memory.buf[8:12] = b"1234"
        with pytest.raises(ValueError):
            memory.buf[0] = 256
        assert bytes(memory.buf) == bytes(10)


def test_a_name_can_be_created_once(place: Place) -> None:
    with create() as memory:
        for size in (1, 512, 5000):
            with pytest.raises(FileExistsError, match="'memory'"):
                create(size=size)
        memory.buf[0] = 1
    with create() as memory:
        assert memory.buf[0] == 0


def test_what_has_no_name_gets_one_of_its_own(place: Place) -> None:
    with create(None) as first, create(None) as second:
        assert first.name != second.name and sorted([first.name, second.name]) == place.names()
        with SharedMemory(first.name) as other:
            other.buf[0] = 5
        assert (first.buf[0], second.buf[0]) == (5, 0)


def test_what_was_unlinked_is_not_found_and_goes_on_for_who_has_it(place: Place) -> None:
    with create() as memory, SharedMemory("memory") as other:
        other.unlink()
        assert place.names() == []
        with pytest.raises(FileNotFoundError):
            SharedMemory("memory")
        with pytest.raises(FileNotFoundError):
            memory.unlink()
        memory.buf[3] = 7
        assert other.buf[3] == 7
        with create() as new:
            assert new.buf[3] == 0


def test_it_can_be_closed_and_then_unlinked(place: Place) -> None:
    memory = create(keep=True)
    memory.close()
    memory.unlink()
    assert place.names() == []


def test_what_is_not_there_is_not_found(place: Place) -> None:
    with pytest.raises(FileNotFoundError, match="'nothing'"):
        SharedMemory("nothing")


def test_closed_memory_shows_nothing(place: Place) -> None:
    memory = create()
    buf = memory.buf
    buf[0] = 1
    del buf
    memory.close()
    with pytest.raises((ValueError, TypeError)):
        memory.buf[0]
    with pytest.raises((ValueError, BufferError)):
        memoryview(memory)
    memory.close()
    assert memory.name == "memory"


def test_close_refuses_while_there_is_a_view_and_keeps_the_data(place: Place) -> None:
    for make in (lambda it: it.buf[5:], lambda it: np.asarray(it.buf), memoryview, lambda it: np.frombuffer(it, "u1")):
        memory = create()
        view = make(memory)
        for _ in range(2):
            with pytest.raises(BufferError):
                memory.close()
        view[3] = 9
        assert view[3] == 9 and place.names() == ["memory"]
        del view
        memory.close()
        assert place.names() == []


def test_views_outlive_what_they_are_views_of(place: Place) -> None:
    view = create().buf[5:]
    array = np.frombuffer(SharedMemory("memory"), "u1")
    view[0] = 8
    assert array[5] == 8 and file_at(address(array), 512) == place.inode("memory")
    del view
    assert array[5] == 8
    del array
    assert place.names() == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_pickled_is_the_same_memory(place: Place, protocol: int) -> None:
    with create(None) as memory:
        memory.buf[0:6] = b"pickle"
        with pickle.loads(pickle.dumps(memory, protocol)) as other:
            assert isinstance(other, SharedMemory) and other.name == memory.name
            assert bytes(other.buf[0:6]) == b"pickle"
            memory.buf[0:6] = b"newval"
            assert bytes(other.buf[0:6]) == b"newval"
            other.buf[0:6] = b"oldval"
            assert bytes(memory.buf[0:6]) == b"oldval"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_pickled_is_not_found_when_it_has_gone(place: Place, protocol: int) -> None:
    memory = create(None)
    pickled = pickle.dumps(memory, protocol)
    memory.close()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes_of_multiprocessing_write_it(place: Place, method: str) -> None:
    """By name, and with fork only by name: what was opened before a fork is the parent's."""
    peer = place.peer(alone=True)
    for given in ["memory.name"] if method == "fork" else ["memory.name", "memory"]:
        peer.ask("memory = memlane.SharedMemory(create=True, size=512)")
        assert peer.ask(f"in_another_process({method!r}, write, {given}, b'howdy')") == 0
        assert peer.ask("memory.buf[:5]") == b"howdy".hex()


def test_there_is_no_tracker_and_no_warning(place: Place) -> None:
    source = """
import memlane, multiprocessing.resource_tracker as tracker, os, pathlib, sys
memory = memlane.SharedMemory("memory", create=True, size=10)
memlane.SharedMemory("memory").buf[0] = 1
assert tracker._resource_tracker._pid is None and tracker._resource_tracker._fd is None
children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text()
assert children == "", children
if sys.argv[1] == "killed":
    print(flush=True)
    sys.stdin.read()
"""
    for how in ("ends", "killed"):
        process = subprocess.Popen(
            [sys.executable, "-W", "always", "-c", source, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if how == "killed":
            assert process.stdout and process.stdout.readline() == b"\n"
            with SharedMemory("memory") as memory:
                assert memory.buf[0] == 1
                process.kill()
                process.wait(HANG)
                assert memory.buf[0] == 1  # its user is still there
        out, errors = process.communicate(timeout=HANG)
        assert (process.returncode, errors) == (-signal.SIGKILL if how == "killed" else 0, b"")
        memlane.gc()
        assert place.names() == []


def test_who_attaches_and_ends_takes_nothing_away(place: Place) -> None:
    """The well-known fault of the tracker: it unlinks what its process only had attached."""
    with create() as memory:
        for ending in ("", "os._exit(0)", "memory.close()"):
            source = f"import memlane, os; memory = memlane.SharedMemory('memory'); memory.buf[0] += 1; {ending}"
            ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=HANG)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert place.names() == ["memory"]
        assert memory.buf[0] == 3


def test_it_goes_with_its_last_user(place: Place) -> None:
    peer = place.peer()
    peer.ask("memory = memlane.SharedMemory('memory', create=True, size=10); memory.buf[0] = 5")
    with SharedMemory("memory") as memory:
        peer.kill()
        assert memory.buf[0] == 5
        with SharedMemory("memory") as other:
            assert other.buf[0] == 5
    assert place.names() == []


def test_what_is_kept_stays_without_users(place: Place) -> None:
    peer = place.peer()
    peer.ask("memory = memlane.SharedMemory('memory', create=True, size=10, keep=True); memory.buf[0] = 5")
    peer.kill()
    assert memlane.gc() == [] and place.names() == ["memory"]
    (it,) = memlane.objects()
    assert (it.name, it.kept, it.dead, it.users) == ("memory", True, False, [])
    with SharedMemory("memory") as memory:
        assert memory.buf[0] == 5
        memory.unlink()
    assert place.names() == []
