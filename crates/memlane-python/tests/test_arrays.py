"""Arrays go from one Python process to another as they are, and are not copied."""

import itertools
from typing import Any

import memlane
import numpy as np
import pytest
from peers import address, expected, file_at
from place import HANG, Peer, Place

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]
SEE = "seen(receiver.recv(20))"


def random(shape: tuple[int, ...], dtype: str, seed: int = 1) -> np.ndarray:
    """An array of random bytes, NaNs of any kind among them."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == "?" else 256, size, dtype="u1")
    return raw.view(dtype).reshape(shape)


def receiving(place: Place, name: str) -> Peer:
    peer = place.peer()
    peer.ask(f"receiver = memlane.Receiver({name!r}, timeout=20)")
    return peer


def assert_seen(answer: dict[str, Any], array: np.ndarray) -> None:
    wanted = expected(array)
    assert {key: answer[key] for key in wanted} == wanted
    assert answer["says"] == list(array.shape)
    assert answer["length"] == (len(array) if array.ndim else None)


@pytest.mark.parametrize("shape", [(1080, 1920, 3), (2160, 3840, 3)], ids=["1080p", "4K"])
def test_a_frame_that_was_filled_in_place_arrives(place: Place, shape: tuple[int, ...]) -> None:
    with memlane.Sender("cam", max_message=int(np.prod(shape)), slots=2, receivers=1) as sender:
        peer = receiving(place, "cam")
        for seed in range(3):
            frame = random(shape, "u1", seed)
            loan = sender.loan_array(shape)
            loan.array[...] = frame
            ticket = loan.send()
            assert_seen(peer.ask(SEE), frame)
            assert [(it.who.pid, it.outcome) for it in ticket.wait(HANG)] == [(peer.pid, "processed")]


@pytest.mark.parametrize("shape", [(1080, 1920, 3), (2160, 3840, 3)], ids=["1080p", "4K"])
def test_a_frame_that_was_copied_into_the_channel_arrives(place: Place, shape: tuple[int, ...]) -> None:
    with memlane.Sender("cam", max_message=int(np.prod(shape)), slots=2, receivers=1) as sender:
        peer = receiving(place, "cam")
        frame = random(shape, "u1")
        sender.send(frame, timeout=HANG)
        assert_seen(peer.ask(SEE), frame)


def test_every_dtype_arrives_bit_by_bit(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        for dtype, shape in itertools.product(DTYPES, [(64,), (5, 7), (1,)]):
            array = random(shape, dtype)
            sender.send(array, timeout=HANG)
            assert_seen(peer.ask(SEE), array)
            with sender.loan_array(shape, dtype, timeout=HANG) as pixels:
                assert (pixels.dtype, pixels.shape) == (array.dtype, shape)
                pixels[...] = array
            assert_seen(peer.ask(SEE), array)


def test_0_to_8_dimensions_arrive(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        for rank in range(9):
            shape = tuple(2 + index % 2 for index in range(rank))
            array = random(shape, "i4", rank)
            sender.send(array, timeout=HANG)
            assert_seen(peer.ask(SEE), array)
            with sender.loan_array(shape, "i4", timeout=HANG) as room:
                assert room.shape == shape and room.flags.c_contiguous
                room[...] = array
            assert_seen(peer.ask(SEE), array)


@pytest.mark.parametrize("shape", [(0,), (0, 0), (3, 0, 2), (0, 1 << 40), (5, 0, 0, 0, 0, 0, 0, 9)], ids=str)
def test_an_empty_array_arrives(place: Place, shape: tuple[int, ...]) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        empty = np.zeros(shape, "f4")
        sender.send(empty, timeout=HANG)
        assert_seen(peer.ask(SEE), empty)
        sender.loan_array(shape, "f4").send(HANG)
        assert_seen(peer.ask(SEE), empty)


def test_the_shape_of_a_loan_can_be_a_number(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        loan = sender.loan_array(7)
        assert (loan.array.shape, loan.array.dtype, loan.nbytes, len(loan)) == ((7,), np.dtype("u1"), 7, 7)
        loan.discard()


BASE = random((12, 10, 6), "u2", 5)
SOURCES = {
    "strided": BASE[::2, 1::3, :5],
    "reversed": BASE[::-1, ::-1, ::-1],
    "partly reversed": BASE[:, ::-2],
    "transposed": BASE.T,
    "axes moved": BASE.transpose(1, 2, 0),
    "Fortran order": np.asfortranarray(BASE),
    "broadcast": np.broadcast_to(BASE[:1, :, :1], (4, 10, 3)),
    "one element, broadcast": np.broadcast_to(np.float32(1.5), (3, 3)),
    "a field of records": np.zeros(9, [("a", "u1"), ("b", ">i4")])["b"] + np.arange(9, dtype=">i4"),
    "unaligned": np.frombuffer(b"x" + bytes(range(80)), dtype="f8", count=10, offset=1),
    "read-only": np.frombuffer(bytes(range(100)), dtype="u1"),
    "a list": [[1, 2], [3, 4]],
    "a number": 7.25,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_an_array_that_is_not_contiguous_arrives_as_it_looks(place: Place, source: Any) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        sender.send(source, timeout=HANG)
        assert_seen(peer.ask(SEE), np.asarray(source))


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">u8", ">f2", ">f4", ">f8", ">c8", ">c16"])
def test_an_array_of_the_other_byte_order_arrives_with_equal_values(place: Place, dtype: str) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        values = np.arange(30).reshape(5, 6).astype(dtype)
        sender.send(values, timeout=HANG)
        answer = peer.ask(SEE)
        assert_seen(answer, values)
        assert answer["dtype"] == dtype.replace(">", "<")


def test_a_loan_lies_in_the_file_of_the_channel(place: Place) -> None:
    with memlane.Sender("cam", max_message=480 * 640 * 3) as sender:
        loan = sender.loan_array((480, 640, 3))
        assert file_at(address(loan.array), loan.array.nbytes) == place.inode("cam")
        assert address(np.asarray(memoryview(loan))) == address(loan.array)
        assert address(loan.array) % 64 == 0
        loan.discard()


def test_what_arrives_lies_in_the_file_of_the_channel(place: Place) -> None:
    with memlane.Sender("cam", max_message=480 * 640 * 3) as sender:
        peer = receiving(place, "cam")
        sender.send(random((480, 640, 3), "u1"))
        peer.ask("frame = receiver.recv(20)")
        assert peer.ask("file_at(address(frame.array), frame.array.nbytes)") == place.inode("cam")
        assert peer.ask("address(frame.array) == address(np.asarray(memoryview(frame))) == address(np.asarray(frame))")
        assert peer.ask("address(frame.array) % 64") == 0


REFUSED = {
    "object": np.array([1, "a", None], dtype=object),
    "datetime64": np.zeros(3, "M8[s]"),
    "timedelta64": np.zeros(3, "m8[ms]"),
    "str": np.array(["a", "bc"]),
    "bytes": np.array([b"a", b"bc"]),
    "void": np.zeros(3, "V5"),
    "longdouble": np.zeros(3, np.longdouble),
    "clongdouble": np.zeros(3, np.clongdouble),
    "records": np.zeros(3, [("x", "f4")]),
}


@pytest.mark.parametrize("array", REFUSED.values(), ids=REFUSED.keys())
def test_a_dtype_that_cannot_be_sent_is_refused_by_name(place: Place, array: np.ndarray) -> None:
    with memlane.Sender("cam", loans=1) as sender:
        for _ in range(3):
            with pytest.raises((TypeError, ValueError)) as refused:
                sender.send(array, timeout=0)
            with pytest.raises((TypeError, ValueError)) as refused_too:
                sender.loan_array(array.shape, array.dtype)
        for text in (str(refused.value), str(refused_too.value)):
            assert str(array.dtype) in text or array.dtype.name in text, text
        assert sender.send(np.arange(3), timeout=0).sequence == 1  # neither room nor a number was lost


@pytest.mark.parametrize("shape", [(1,) * 9, (2,) * 9, (0,) * 20], ids=len)
def test_more_than_8_dimensions_are_refused(place: Place, shape: tuple[int, ...]) -> None:
    with memlane.Sender("cam", loans=1) as sender:
        for refuse in (lambda: sender.send(np.zeros(shape, "u1"), timeout=0), lambda: sender.loan_array(shape)):
            with pytest.raises(ValueError, match="8|eight"):
                refuse()
        assert sender.send(np.arange(3), timeout=0).sequence == 1


@pytest.mark.parametrize("shape", [(-1,), (3, -2), (1 << 62, 1 << 62), (1 << 64,)], ids=str)
def test_an_impossible_shape_is_refused(place: Place, shape: tuple[int, ...]) -> None:
    with memlane.Sender("cam", loans=1) as sender:
        for _ in range(3):
            with pytest.raises((ValueError, OverflowError)):
                sender.loan_array(shape)
        sender.loan_array(3).discard()


def test_the_largest_array_fits_and_a_larger_one_does_not(place: Place) -> None:
    with memlane.Sender("cam", max_message=1000) as sender:
        assert sender.max_message == 1000
        peer = receiving(place, "cam")
        for refuse in (lambda: sender.send(np.zeros(1001, "u1")), lambda: sender.loan_array((7, 13, 11))):
            with pytest.raises(memlane.TooLarge, match="'cam'.*1000") as refused:
                refuse()
            assert isinstance(refused.value, ValueError)
        array = random((10, 100), "u1")
        sender.send(array)
        assert_seen(peer.ask(SEE), array)
        with sender.loan_array((125,), "f8") as room:
            room[...] = 1.5
        assert_seen(peer.ask(SEE), np.full(125, 1.5))


def test_what_a_channel_carries_is_known_to_both(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        assert sender.message == "tensor"
        assert peer.ask("receiver.message, receiver.name, receiver.id") == ["tensor", "cam", sender.id]
        assert sender.name == "cam" and sender.id != 0


def test_metadata_and_a_schema_id_go_along(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        for length, schema_id in itertools.product([0, 1, 63, 64], [0, 1, (1 << 64) - 1]):
            metadata = bytes(range(100, 100 + length))
            sender.send(np.arange(5), metadata=metadata, schema_id=schema_id, timeout=HANG)
            answer = peer.ask(SEE)
            assert (answer["metadata"], answer["schema_id"]) == (metadata.hex(), schema_id)
            loan = sender.loan_array(5)
            loan.metadata, loan.schema_id = metadata, schema_id
            assert (loan.metadata, loan.schema_id) == (metadata, schema_id)
            loan.send(HANG)
            answer = peer.ask(SEE)
            assert (answer["metadata"], answer["schema_id"]) == (metadata.hex(), schema_id)


def test_metadata_of_an_earlier_message_does_not_come_again(place: Place) -> None:
    with memlane.Sender("cam", slots=1, receivers=1, claims=1, loans=1) as sender:
        peer = receiving(place, "cam")
        for index in range(12):
            metadata = b"some" if index % 2 else b""
            sender.send(np.arange(5), metadata=metadata, schema_id=index % 2, timeout=HANG)
            answer = peer.ask(SEE)
            assert (answer["metadata"], answer["schema_id"]) == (metadata.hex(), index % 2)


def test_65_bytes_of_metadata_are_refused(place: Place) -> None:
    with memlane.Sender("cam", loans=1) as sender:
        for _ in range(3):
            with pytest.raises(ValueError, match="64"):
                sender.send(np.arange(5), metadata=bytes(65), timeout=0)
        loan = sender.loan_array(5)
        loan.metadata = b"before"
        with pytest.raises(ValueError, match="64"):
            loan.metadata = bytes(65)
            loan.send(0)
        with pytest.raises(TypeError):
            loan.metadata = "text"
        with pytest.raises(OverflowError):
            loan.schema_id = 1 << 64
        loan.metadata = b"after"
        assert loan.send(0).sequence == 1
        with memlane.Receiver("cam") as receiver:
            assert receiver.recv(HANG).metadata == b"after"


def test_the_age_of_a_frame_is_a_time(place: Place) -> None:
    with memlane.Sender("cam") as sender:
        peer = receiving(place, "cam")
        sender.send(np.arange(5))
        age = peer.ask("receiver.recv(20).age")
        assert 0 < age < HANG
