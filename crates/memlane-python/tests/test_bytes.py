"""Channels of bytes: small messages, which are copied, and large ones, which are not."""

import array
import hashlib

import memlane
import numpy as np
import pytest
from peers import address, file_at
from place import HANG, Peer, Place

SIZES = [0, 1, 7, 87, 88, 89, 1000, 4096, 65535, 65536]


def receiving(place: Place) -> Peer:
    peer = place.peer()
    peer.ask("receiver = memlane.Receiver('raw')")
    return peer


def test_bytes_of_any_length_arrive(place: Place) -> None:
    with memlane.Sender("raw", message="bytes") as sender:
        peer = receiving(place)
        assert sender.message == "bytes" == peer.ask("receiver.message")
        for size in SIZES:
            data = np.random.default_rng(size).bytes(size)
            sender.send(data, timeout=HANG)
            peer.ask("frame = receiver.recv(20)")
            wanted = [hashlib.sha256(data).hexdigest()] * 3 + [size, size, [size], "|u1", None]
            assert wanted == peer.ask(
                "[hashlib.sha256(it).hexdigest() for it in (bytes(frame), memoryview(frame), frame.array)]"
                " + [len(frame), frame.nbytes, list(frame.shape), frame.array.dtype.str, frame.format]"
            )
            with sender.loan(size, timeout=HANG) as room:
                assert (room.shape, room.dtype) == ((size,), np.uint8)
                room[...] = np.frombuffer(data, "u1")
            assert peer.ask("hashlib.sha256(receiver.recv(20)).hexdigest()") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [20, 88, 89, 3000])
def test_metadata_goes_along_with_small_and_large_messages(place: Place, size: int) -> None:
    with memlane.Sender("raw", message="bytes") as sender:
        peer = receiving(place)
        sender.send(b"x" * size, metadata=b"m" * 64, schema_id=9)
        sender.send(b"y" * size)
        see = "(lambda it: [bytes(it).decode(), it.metadata.decode(), it.schema_id])(receiver.recv(20))"
        assert peer.ask(see) == ["x" * size, "m" * 64, 9]
        assert peer.ask(see) == ["y" * size, "", 0]


SOURCES = {
    "bytearray": bytearray(b"some bytes"),
    "memoryview": memoryview(b"+some bytes+")[1:-1],
    "array": array.array("B", b"some bytes"),
    "NumPy array": np.frombuffer(b"some bytes", "u1"),
    "strided": np.frombuffer(b"s_o_m_e_ _b_y_t_e_s_", "u1")[::2],
    "of two dimensions": memoryview(b"some bytes").cast("B", (2, 5)),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_whatever_has_bytes_can_be_sent(place: Place, source: object) -> None:
    with memlane.Sender("raw", message="bytes") as sender:
        peer = receiving(place)
        sender.send(source, timeout=HANG)
        assert peer.ask("bytes(receiver.recv(20)).decode()") == "some bytes"


@pytest.mark.parametrize("source", ["text", None, object(), {}], ids=["str", "None", "object", "dict"])
def test_what_has_no_bytes_is_refused(place: Place, source: object) -> None:
    with memlane.Sender("raw", message="bytes", loans=1) as sender:
        for _ in range(3):
            with pytest.raises(TypeError):
                sender.send(source, timeout=0)
        assert sender.send(b"x", timeout=0).sequence == 1


def test_frames_are_in_place_however_short_they_are(place: Place) -> None:
    with memlane.Sender("raw", message="bytes") as sender:
        with memlane.Receiver("raw") as receiver:
            sender.send(b"x" * 20)
            sender.send(b"x" * 5000)
            small, large = receiver.recv(HANG), receiver.recv(HANG)
            assert file_at(address(small.array), 20) == place.inode("raw")
            assert file_at(address(large.array), 5000) == place.inode("raw")
            for frame in (small, large):
                assert not frame.array.flags.writeable
                assert memoryview(frame).readonly


def test_short_frames_stay_when_everything_else_has_gone(place: Place) -> None:
    sender = memlane.Sender("raw", message="bytes", claims=10, slots=16)
    receiver = memlane.Receiver("raw")
    frames = []
    for number in range(10):
        sender.send(b"%03d" % number, timeout=HANG)
        frames.append(receiver.recv(HANG))
    receiver.close()
    sender.close()
    assert [bytes(frame) for frame in frames] == [b"%03d" % number for number in range(10)]


def test_a_size_that_cannot_be_is_refused(place: Place) -> None:
    with memlane.Sender("raw", message="bytes", max_message=100, loans=1) as sender:
        assert sender.max_message == 100
        for size in (101, -1, 1 << 70):
            for _ in range(3):
                with pytest.raises((ValueError, OverflowError)):
                    sender.loan(size)
        with pytest.raises(memlane.TooLarge, match="'raw'.*100"):
            sender.send(bytes(101), timeout=0)
        sender.loan(100).discard()
