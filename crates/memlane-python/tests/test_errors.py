"""Each error is one of memlane, derives from the built-in one that fits, and names the object."""

import inspect
import os
import stat
from collections.abc import Callable
from functools import partial

import memlane
import numpy as np
import pytest
from place import HANG, Place

BUILT_IN = {
    "InvalidName": ValueError,
    "DirectoryError": OSError,
    "NotFound": FileNotFoundError,
    "AlreadyExists": FileExistsError,
    "Foreign": OSError,
    "Corrupt": OSError,
    "Incompatible": OSError,
    "TypeMismatch": TypeError,
    "NoSpace": MemoryError,
    "UnsafeMode": PermissionError,
    "ForkedError": RuntimeError,
    "TooLarge": ValueError,
    "TooManyParticipants": OSError,
    "NoRoom": OSError,
    "BadOptions": ValueError,
    "Busy": TimeoutError,
    "TimedOut": TimeoutError,
    "OutOfBounds": ValueError,
    "SystemFailure": OSError,
    "AlreadyLocked": RuntimeError,
    "Retired": OSError,
    "Interrupted": InterruptedError,
    "NotInSegment": ValueError,
    "OwnerDied": RuntimeError,
    "PeerLost": ConnectionError,
    "LoansInUse": BufferError,
    "ClaimsInUse": BufferError,
    "Released": ValueError,
    "Full": TimeoutError,
    "NoReceiver": BrokenPipeError,
    "TooFew": TimeoutError,
    "Closed": EOFError,
    "SenderDied": ConnectionResetError,
}


def test_every_error_has_its_built_in_one() -> None:
    errors = {
        name: kind
        for name, kind in inspect.getmembers(memlane, inspect.isclass)
        if issubclass(kind, BaseException) and kind is not memlane.Error
    }
    assert errors.keys() == BUILT_IN.keys()
    for name, kind in errors.items():
        assert issubclass(kind, memlane.Error) and issubclass(kind, BUILT_IN[name]), name
        assert kind.__module__.startswith("memlane") and kind.__doc__, name


def assert_raises(kind: type[Exception], says: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=says) as error:
        call()
    assert type(error.value) is kind
    assert isinstance(error.value, memlane.Error) and isinstance(error.value, BUILT_IN[kind.__name__])


CLIENTS = [memlane.Receiver, memlane.Client, memlane.Segment]
OPENERS = [*CLIENTS, memlane.Sender.open, memlane.Server.open, memlane.SharedMemory]


@pytest.mark.parametrize("opener", OPENERS, ids=lambda it: it.__qualname__)
def test_what_is_not_there_is_not_found(place: Place, opener: Callable[[str], object]) -> None:
    assert_raises(memlane.NotFound, "'nothing'", lambda: opener("nothing"))
    for call in (memlane.remove, memlane.retire, memlane.schema):
        assert_raises(memlane.NotFound, "'nothing'", partial(call, "nothing"))


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a b", "x" * 201, "ä", "a\0b"])
def test_a_name_that_cannot_be_is_refused(place: Place, name: str) -> None:
    for call in (*OPENERS, memlane.Sender, memlane.Server, memlane.remove, memlane.schema):
        with pytest.raises(memlane.InvalidName) as error:
            call(name)
        assert isinstance(error.value, ValueError)
    assert place.names() == []


@pytest.mark.parametrize("name", [None, 5, b"cam"], ids=repr)
def test_a_name_is_a_str(place: Place, name: object) -> None:
    for call in (*CLIENTS, memlane.Sender, memlane.Server, memlane.remove):
        with pytest.raises(TypeError):
            call(name)


def test_what_does_not_come_in_time_is_a_timeout(place: Place) -> None:
    for timeout in (0.01, 0.3):
        for opener in (memlane.Receiver, memlane.Client):
            assert_raises(memlane.TimedOut, "'nothing'", partial(opener, "nothing", timeout=timeout))
    with memlane.Sender("cam"), memlane.Receiver("cam") as receiver:
        says = f"'cam'.*{os.getpid()}"  # who lives, but sends nothing
        assert_raises(memlane.TimedOut, says, lambda: receiver.recv(0))
        assert_raises(memlane.TimedOut, says, lambda: receiver.recv(0.02))


@pytest.mark.parametrize("timeout", [-1, -1e30, float("-inf")], ids=repr)
def test_a_timeout_that_is_over_already_does_not_wait(place: Place, timeout: float) -> None:
    with memlane.Sender("cam", slots=1) as sender, memlane.Receiver("cam", timeout=timeout) as receiver:
        assert_raises(memlane.TimedOut, "'cam'", lambda: receiver.recv(timeout))
        ticket = sender.send(np.arange(3), timeout=timeout)
        assert_raises(memlane.TimedOut, "'cam'", lambda: ticket.wait(timeout))
        assert_raises(memlane.Full, "'cam'", lambda: sender.send(np.arange(3), timeout=timeout))
        assert receiver.recv(timeout).sequence == 1


@pytest.mark.parametrize("timeout", [float("nan"), "1", b"1", ()], ids=repr)
def test_a_timeout_that_is_no_time_is_refused(place: Place, timeout: object) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam") as receiver:
        ticket = sender.send(np.arange(3))
        receiver.recv(HANG).release()
        for call in (
            lambda: receiver.recv(timeout),
            lambda: receiver.wait(timeout),
            lambda: sender.send(np.arange(3), timeout=timeout),
            lambda: sender.wait_for_receivers(1, timeout),
            lambda: ticket.wait(timeout),
            lambda: memlane.Receiver("cam", timeout=timeout),
        ):
            with pytest.raises((ValueError, TypeError)) as error:
                call()
            assert not isinstance(error.value, memlane.TimedOut)


@pytest.mark.parametrize("timeout", [1e9, 1e30, float("inf"), 10**40], ids=repr)
def test_a_timeout_can_be_as_long_as_one_likes(place: Place, timeout: float) -> None:
    with memlane.Sender("cam") as sender, memlane.Receiver("cam", timeout=timeout) as receiver:
        ticket = sender.send(np.arange(3), timeout=timeout)
        receiver.recv(timeout).release()
        assert len(ticket.wait(timeout)) == 1


def test_what_exists_is_not_created_again(place: Place) -> None:
    peer = place.peer()
    peer.ask("sender = memlane.Sender('cam')")
    peer.ask("memory = memlane.SharedMemory('memory', create=True, size=100)")
    peer.ask("segment = memlane.Segment('segment', [('x', 'u8')], create=True)")
    peer.ask("server = memlane.Server('service')")
    dtype = np.dtype([("x", "u8")])
    for name in ("cam", "memory", "segment", "service"):
        says = f"'{name}'.*{peer.pid}"
        assert_raises(memlane.AlreadyExists, says, partial(memlane.Sender, name))
        assert_raises(memlane.AlreadyExists, says, partial(memlane.Server, name))
        assert_raises(memlane.AlreadyExists, says, partial(memlane.SharedMemory, name, create=True, size=1))
        assert_raises(memlane.AlreadyExists, says, partial(memlane.Segment, name, dtype, create=True))


def test_objects_of_another_kind_are_refused(place: Place) -> None:
    with (
        memlane.Sender("cam"),
        memlane.SharedMemory("memory", create=True, size=100),
        memlane.Segment("segment", np.dtype([("x", "u8")]), create=True),
        memlane.Server("service"),
    ):
        for name in ("memory", "segment", "service"):
            assert_raises(memlane.TypeMismatch, f"'{name}'", partial(memlane.Receiver, name))
            assert_raises(memlane.TypeMismatch, f"'{name}'", partial(memlane.Sender.open, name))
        for name in ("memory", "segment", "cam"):
            assert_raises(memlane.TypeMismatch, f"'{name}'", partial(memlane.Client, name))
            assert_raises(memlane.TypeMismatch, f"'{name}'", partial(memlane.Server.open, name))


def test_what_is_no_object_is_foreign(place: Place) -> None:
    path = place.directory / "file"
    path.write_text("something else")
    path.chmod(0o600)
    for call in (memlane.Receiver, memlane.SharedMemory, memlane.Sender):
        assert_raises(memlane.Foreign, "'file'", partial(call, "file"))
    path.unlink()


def test_a_directory_that_is_not_there_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = str(place.directory / "missing")
    monkeypatch.setenv("MEMLANE_DIR", missing)
    assert_raises(memlane.DirectoryError, missing, lambda: memlane.Sender("cam"))


@pytest.mark.parametrize(
    "options",
    [{"slots": 0}, {"receivers": 0}, {"senders": 0}, {"claims": 0}, {"claims": 63}, {"loans": 0}, {"receivers": 128}],
    ids=str,
)
def test_options_that_cannot_be_are_refused(place: Place, options: dict[str, int]) -> None:
    assert_raises(memlane.BadOptions, "'cam'", lambda: memlane.Sender("cam", **options))
    assert place.names() == []


@pytest.mark.parametrize(
    "options", [{"slots": -1}, {"receivers": 1 << 20}, {"claims": 1 << 70}, {"max_message": -1}], ids=str
)
def test_options_that_are_no_counts_are_refused(place: Place, options: dict[str, int]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        memlane.Sender("cam", **options)
    assert place.names() == []


@pytest.mark.parametrize("policy", ["", "Lossless", "service", "fifo"])
def test_an_unknown_policy_is_refused_with_what_there_is(place: Place, policy: str) -> None:
    with pytest.raises(ValueError, match="lossless"):
        memlane.Sender("cam", policy=policy)
    assert place.names() == []


def test_memory_that_cannot_be_had_leaves_nothing_behind(place: Place) -> None:
    assert_raises(memlane.NoSpace, "'cam'", lambda: memlane.Sender("cam", max_message=1 << 36))
    assert_raises(memlane.NoSpace, "'memory'", lambda: memlane.SharedMemory("memory", create=True, size=1 << 42))
    assert place.names() == []


def test_the_mode_is_that_of_the_file(place: Place) -> None:
    with memlane.Sender("cam", mode=0o640), memlane.SharedMemory("memory", create=True, size=1):
        assert stat.S_IMODE(os.stat(place.directory / "cam").st_mode) == 0o640
        assert stat.S_IMODE(os.stat(place.directory / "memory").st_mode) == 0o600
    assert_raises(memlane.UnsafeMode, "'cam'", lambda: memlane.Sender("cam", mode=0o602))


def test_as_many_receivers_as_there_are_places_for(place: Place) -> None:
    with memlane.Sender("cam", receivers=1):
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('cam')")
        assert_raises(memlane.NoRoom, f"'cam'.*{peer.pid}", lambda: memlane.Receiver("cam"))
        peer.kill()
        memlane.Receiver("cam").close()


def test_as_many_loans_as_there_is_room_for(place: Place) -> None:
    with memlane.Sender("cam", loans=2) as sender:
        loans = []
        with pytest.raises(memlane.LoansInUse, match="'cam'") as error:
            while len(loans) < 100:
                loans.append(sender.loan_array(3))
        assert isinstance(error.value, BufferError) and len(loans) >= 2
        loans.pop().discard()
        sender.loan_array(3).discard()
        loans.clear()


def test_users_of_what_was_retired_are_told(place: Place) -> None:
    peer = place.peer()
    with memlane.Sender("cam") as sender:
        peer.ask("receiver = memlane.Receiver('cam')")
        peer.start("receiver.recv()")
        memlane.retire("cam")
        assert "Retired" in peer.failure().kinds
        assert_raises(memlane.Retired, "'cam'", lambda: sender.send(np.arange(3)))
        assert place.names() == []
