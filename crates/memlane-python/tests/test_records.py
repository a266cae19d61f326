"""Channels of records: a structured dtype in place, with a flexible tail or without."""

import memlane
import numpy as np
import pytest
from peers import address, equal, file_at
from place import HANG, Place

POINT = np.dtype([("x", "<f8"), ("y", "<f8")], align=True)
POSE = np.dtype(
    [("id", "<u4"), ("flags", "u1", (4,)), ("at", POINT), ("corners", POINT, (2, 3)), ("scale", "<f4")], align=True
)
CLOUD = np.dtype([("stamp", "<u8"), ("kind", "<u4"), ("_pad", "<u4"), ("points", POINT, (0,))])


def pose(seed: int) -> np.ndarray:
    record = np.zeros((), POSE)
    record["id"], record["flags"], record["scale"] = seed, [seed, 2, 3, 4], seed / 2
    record["at"] = (seed, -1.5)
    record["corners"]["y"] = np.arange(6).reshape(2, 3) + seed
    return record


def test_a_record_arrives_with_all_its_fields(place: Place) -> None:
    with memlane.Sender("poses", message=POSE) as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('poses')")
        for seed in range(1, 4):
            sender.send(pose(seed), timeout=HANG)
            peer.ask("frame = receiver.recv(20)")
            assert peer.ask("frame.array.shape, frame.shape, frame.format") == [[], [], None]
            assert peer.ask("[frame.array['id'], frame.array['flags'], frame.array['scale']]") == [
                seed,
                [seed, 2, 3, 4],
                seed / 2,
            ]
            assert peer.ask("frame.array['at']['x'], frame.array['corners']['y']") == [
                seed,
                [[seed, seed + 1, seed + 2], [seed + 3, seed + 4, seed + 5]],
            ]
            assert peer.ask("frame.array.flags.writeable, file_at(address(frame.array), frame.nbytes)") in (
                [False, place.inode("poses")],
                [False, 0],  # a small one is a copy
            )


def test_a_record_is_filled_in_place(place: Place) -> None:
    with memlane.Sender("poses", message=POSE) as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('poses')")
        with sender.loan() as record:
            assert (record.shape, record.dtype) == ((), POSE)
            assert file_at(address(record), record.nbytes) == place.inode("poses")
            record[...] = pose(5)
            record["at"]["y"] = 8
        assert peer.ask("receiver.recv(20).array['at'].tolist()") == [5, 8]


@pytest.mark.parametrize("make", [np.void, lambda it: it, lambda it: it[()]], ids=["a void", "an array", "a scalar"])
def test_a_record_can_be_sent_however_numpy_has_it(place: Place, make: object) -> None:
    with memlane.Sender("points", message=POINT) as sender, memlane.Receiver("points") as receiver:
        record = np.array((1.5, -2.5), POINT)
        value = np.void((1.5, -2.5), POINT) if make is np.void else make(record)  # type: ignore[operator]
        sender.send(value, timeout=HANG)
        assert receiver.recv(HANG).array.tolist() == (1.5, -2.5)


def test_a_record_of_another_dtype_is_refused(place: Place) -> None:
    with memlane.Sender("points", message=POINT, loans=1) as sender:
        other = np.dtype([("x", "<f8"), ("z", "<f8")])
        for wrong in (np.zeros((), other), np.zeros((), "f8"), np.zeros(2, POINT), b"x" * 16, "text"):
            with pytest.raises((TypeError, ValueError)):
                sender.send(wrong, timeout=0)
        assert sender.send(np.zeros((), POINT), timeout=0).sequence == 1


def test_both_sides_know_the_dtype(place: Place) -> None:
    with memlane.Sender("poses", message=POSE) as sender, memlane.Receiver("poses") as receiver:
        for dtype in (sender.message, receiver.message, memlane.schema("poses")):
            assert isinstance(dtype, np.dtype)
            assert dtype == POSE
            assert {name: field[1] for name, field in dtype.fields.items()} == {
                name: field[1] for name, field in POSE.fields.items()
            }
        assert sender.max_message == POSE.itemsize


def test_a_flexible_tail_has_as_many_elements_as_each_message(place: Place) -> None:
    with memlane.Sender("clouds", message=CLOUD, max_message=CLOUD.itemsize + 100 * POINT.itemsize) as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('clouds')")
        for count in (0, 1, 7, 100):
            with sender.loan(count, timeout=HANG) as cloud:
                assert cloud["points"].shape == (count,)
                cloud["stamp"], cloud["kind"] = count, 5
                cloud["points"]["x"] = np.arange(count)
                cloud["points"]["y"] = -np.arange(count)
            peer.ask("frame = receiver.recv(20)")
            assert peer.ask("[frame.array['stamp'], frame.array['points']['x'], frame.array['points']['y']]") == [
                count,
                list(range(count)),
                [-number for number in range(count)],
            ]
            assert peer.ask("frame.nbytes") == CLOUD.itemsize + count * POINT.itemsize
        with pytest.raises(memlane.TooLarge):
            sender.loan(101)


@pytest.mark.parametrize(
    "dtype",
    [
        [("ok", "u1"), ("bad", "O")],
        [("ok", "u1"), ("bad", "M8[s]")],
        [("bad", "U4")],
        [("bad", [("deep", "O", (3,))])],
        [("bad", ">u4")],
    ],
    ids=str,
)
def test_a_dtype_that_cannot_be_shared_is_refused_by_its_field(place: Place, dtype: list[tuple[str, str]]) -> None:
    with pytest.raises((TypeError, ValueError), match="bad"):
        memlane.Sender("records", message=np.dtype(dtype))
    assert place.names() == []


def nested(depth: int) -> np.dtype:
    return np.dtype([("deeper", nested(depth - 1)), ("n", "<u4")]) if depth else np.dtype("<u4")


ODD = {
    "unaligned": [("a", "u1"), ("b", "<f8"), ("c", "<u2")],
    "a point in a name": [("a.b", "<u4"), ("a", [("b", "<u4")])],
    "a tab in a name": [("a\tu8\t0", "<u4")],
    "a line in a name": [("a\nb", "<u4")],
    "brackets for a name": [("[]", "<u4"), ("x", "<u4", (2,))],
    "letters of other languages": [("größe", "<u4"), ("大きさ", "<u4")],
    "the name of a part of a mutex": [("mutex", "<u8"), ("data", "<u4")],
    "overlapping": {"names": ["a", "b"], "formats": ["<u4", "<u2"], "offsets": [0, 2]},
    "out of order": {"names": ["b", "a"], "formats": ["<u4", "<u4"], "offsets": [4, 0]},
    "room at the end": {"names": ["a"], "formats": ["<u4"], "offsets": [0], "itemsize": 100},
    "room at the start": {"names": ["a"], "formats": ["<u4"], "offsets": [8], "itemsize": 16},
    "nothing": [],
    "bytes without a type": [("a", "V3"), ("b", "u1")],
    "truth": [("a", "?"), ("b", "?", (3,))],
    "no elements before others": [("a", "u1", (0,)), ("b", "<u4")],
    "no elements inside": [("a", "<u4", (3, 0)), ("b", "<u4")],
    "deep": nested(30),
    "many": [(f"field{index}", "<u4") for index in range(500)],
}


@pytest.mark.parametrize("dtype", ODD.values(), ids=ODD.keys())
def test_an_odd_dtype_is_refused_or_arrives_as_it_is(place: Place, dtype: object) -> None:
    dtype = np.dtype(dtype)  # type: ignore[call-overload]
    try:
        sender = memlane.Sender("odd", message=dtype)
    except (TypeError, ValueError):
        assert place.names() == []
        return
    raw = np.random.default_rng(3).integers(0, 2, dtype.itemsize, "u1")
    record = np.frombuffer(raw.tobytes(), dtype).reshape(())
    with sender, memlane.Receiver("odd") as receiver:
        assert sender.message == receiver.message == dtype
        sender.send(record, timeout=HANG)
        frame = receiver.recv(HANG)
        assert equal(frame.array, record)


@pytest.mark.parametrize("message", ["images", "", 5, [("x", "nonsense")]], ids=repr)
def test_what_is_no_type_of_messages_is_refused(place: Place, message: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        memlane.Sender("records", message=message)
    assert place.names() == []
