"""Records in shared memory that are checked against what their creator says, with locks in them."""

import memlane
import numpy as np
import pytest
from peers import address, equal, file_at
from place import HANG, Place

POINT = np.dtype([("x", "<f8"), ("y", "<f8")])
PLAIN = np.dtype(
    [("id", "<u8"), ("at", POINT), ("corners", POINT, (2, 3)), ("name", "u1", (16,)), ("flag", "u1"), ("small", "<i2")],
    align=True,
)
TAIL = np.dtype([("stamp", "<u8"), ("points", POINT, (0,))])
ACCOUNT = [
    ("id", "<u8"),
    ("balance", memlane.mutex("<i8")),
    ("log", memlane.mutex(POINT)),
    ("changed", memlane.condition()),
]


def plain() -> np.ndarray:
    value = np.zeros((), PLAIN)
    value["id"], value["at"], value["flag"], value["small"] = 5, (1.5, -2), 1, -7
    value["corners"]["x"] = np.arange(6).reshape(2, 3)
    value["name"][:3] = list(b"abc")
    return value


def test_a_segment_is_there_with_its_value(place: Place) -> None:
    with memlane.Segment("plain", PLAIN, create=True, value=plain()) as segment:
        assert (segment.name, segment.dtype) == ("plain", PLAIN)
        assert (segment.array.shape, segment.array.dtype) == ((), PLAIN)
        assert equal(segment.array, plain())
        assert file_at(address(segment.array), PLAIN.itemsize) == place.inode("plain")
        peer = place.peer()
        peer.ask("segment = memlane.Segment('plain')")
        assert peer.ask("segment.array['id'], segment.array['at']['y'], segment.array['corners']['x']") == [
            5,
            -2,
            [[0, 1, 2], [3, 4, 5]],
        ]
        assert peer.ask("bytes(segment.array['name'][:3]), segment.array['small']") == [b"abc".hex(), -7]


def test_a_segment_without_a_value_is_zero(place: Place) -> None:
    with memlane.Segment("plain", PLAIN, create=True) as segment:
        assert segment.array.tobytes() == bytes(PLAIN.itemsize)


@pytest.mark.parametrize("value", [(7, 8), {"x": 7, "y": 8}, np.array((7, 8), POINT), np.void((7, 8), POINT)], ids=type)
def test_a_value_can_be_whatever_numpy_takes_for_one(place: Place, value: object) -> None:
    if isinstance(value, dict):
        value = tuple(value.values())
    with memlane.Segment("point", POINT, create=True, value=value) as segment:
        assert segment.array.tolist() == (7, 8)


def test_the_record_is_only_read(place: Place) -> None:
    with memlane.Segment("plain", PLAIN, create=True, value=plain()) as segment:
        array = segment.array
        with pytest.raises(ValueError):
            array["id"] = 1
        with pytest.raises(ValueError):
            array["at"]["x"] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True
        assert segment.array["id"] == 5


def test_a_segment_opens_with_the_dtype_it_has(place: Place) -> None:
    with memlane.Segment("plain", PLAIN, create=True, value=plain()):
        for dtype in (None, PLAIN):
            with memlane.Segment("plain", dtype) as other:
                assert other.dtype == PLAIN and other.array["id"] == 5


OTHERS = {
    "a name": np.dtype([("x", "<f8"), ("z", "<f8")]),
    "a type": np.dtype([("x", "<f8"), ("y", "<i8")]),
    "a size": np.dtype([("x", "<f8"), ("y", "<f4")]),
    "one more": np.dtype([("x", "<f8"), ("y", "<f8"), ("z", "<f8")]),
    "one less": np.dtype([("x", "<f8")]),
    "an order": np.dtype([("y", "<f8"), ("x", "<f8")]),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_another_dtype_is_an_error_that_shows_the_difference(place: Place, other: np.dtype) -> None:
    with memlane.Segment("point", POINT, create=True):
        with pytest.raises(memlane.TypeMismatch, match="'point'") as mismatch:
            memlane.Segment("point", other)
        assert isinstance(mismatch.value, TypeError)
        different = {(name, kind) for name, (kind, *_) in other.fields.items()} ^ {
            (name, kind) for name, (kind, *_) in POINT.fields.items()
        }
        says = str(mismatch.value).splitlines()
        assert len(says) > 1
        for name, _ in different:
            assert any(name in line for line in says[1:]), says


def test_a_tail_has_as_many_elements_as_its_creator_said(place: Place) -> None:
    value = (3, [(number, -number) for number in range(5)])
    with memlane.Segment("tail", TAIL, create=True, tail=5) as segment:
        assert segment.array["points"].shape == (5,)
        assert segment.array["points"]["x"].tolist() == [0] * 5
        peer = place.peer()
        peer.ask("segment = memlane.Segment('tail')")
        assert peer.ask("segment.array['points'].shape, segment.dtype.itemsize") == [[5], 8 + 5 * 16]
        peer.ask(f"same = memlane.Segment('tail', {TAIL.descr!r})")
        assert peer.ask("same.array['points'].shape") == [5]
        assert memlane.schema("tail") == segment.dtype
    dtype = np.dtype([("stamp", "<u8"), ("points", POINT, (5,))])
    with memlane.Segment("filled", TAIL, create=True, tail=5, value=np.array(value, dtype)) as segment:
        assert segment.array["points"]["y"].tolist() == [0, -1, -2, -3, -4]


def test_what_a_mutex_guards_is_written_with_it(place: Place) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        peer = place.peer()
        peer.ask("segment = memlane.Segment('account'); balance, log = segment.mutex('balance'), segment.mutex('log')")
        with segment.mutex("balance") as balance, segment.mutex("log") as log:
            assert (balance.shape, balance.dtype, log.dtype) == ((), np.dtype("<i8"), POINT)
            assert file_at(address(balance), 8) == place.inode("account")
            balance[...] = 40
            log["x"] = 1.5
            assert "TimedOut" in peer.fails("balance.acquire(0.02)").kinds
        peer.ask("""
            with balance as value, log as entry:
                value += 2
                entry["y"] = entry["x"] * 2
        """)
        with segment.mutex("balance") as balance, segment.mutex("log") as log:
            assert balance == 42 and log.tolist() == (1.5, 3)


def test_what_a_mutex_guards_cannot_be_written_after_it(place: Place) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        with segment.mutex("log") as log:
            log["x"] = 1
        with pytest.raises(ValueError):
            log["x"] = 2
        with segment.mutex("log") as log:
            assert log["x"] == 1


def test_a_killed_holder_in_a_segment_is_noticed(place: Place) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        peer = place.peer()
        peer.ask("""
            segment = memlane.Segment('account')
            lock = segment.mutex('balance')
            value = lock.__enter__()
            value[...] = 13
        """)
        peer.kill()
        mutex = segment.mutex("balance")
        with pytest.raises(memlane.OwnerDied, match="'account'"):
            mutex.acquire(HANG)
        with mutex.repair() as balance:
            assert balance == 13
            balance[...] = 0
        with mutex as balance, segment.mutex("log"):
            assert balance == 0


def test_processes_wait_for_a_condition_in_a_segment(place: Place) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        peer = place.peer()
        peer.ask("""
            segment = memlane.Segment("account")
            mutex = segment.mutex("balance")
            changed = segment.condition("changed", mutex)
        """)
        peer.start("with mutex as value: say('waits'); seen = changed.wait_for(lambda: int(value), 20)")
        peer.heard()
        peer.wait_asleep()
        mutex = segment.mutex("balance")
        with mutex as balance:
            balance[...] = 9
            segment.condition("changed", mutex).notify_all()
        peer.result()
        assert peer.ask("seen") == 9


@pytest.mark.parametrize("field", ["id", "nothing", "changed", "balance.x", "."])
def test_a_field_that_is_no_mutex_is_refused_by_name(place: Place, field: str) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        with pytest.raises((KeyError, TypeError, ValueError), match=field):
            segment.mutex(field)
        with pytest.raises((KeyError, TypeError, ValueError)):
            segment.condition("balance", segment.mutex("balance"))


def test_a_mutex_deep_in_a_record_is_found_by_its_path(place: Place) -> None:
    inner = np.dtype([("lock", memlane.mutex("<u4")), ("more", "<u4")], align=True)
    with memlane.Segment("deep", [("first", inner), ("second", inner)], create=True) as segment:
        with segment.mutex("first.lock") as first, segment.mutex("second.lock") as second:
            first[...], second[...] = 1, 2
        with segment.mutex("second.lock") as second:
            assert second == 2


def test_raw_memory_and_segments_and_channels_say_what_they_are(place: Place) -> None:
    with (
        memlane.SharedMemory("memory", create=True, size=100),
        memlane.Segment("plain", PLAIN, create=True),
        memlane.Sender("records", message=POINT),
        memlane.Sender("arrays"),
        memlane.Sender("images", message="image"),
        memlane.Sender("bytes", message="bytes"),
    ):
        assert memlane.schema("plain") == PLAIN
        assert memlane.schema("plain", "at") == POINT
        assert memlane.schema("records") == POINT
        assert {"width", "height", "stride", "format", "pixels"} <= set(memlane.schema("images").names)
        assert {"dtype", "rank", "shape", "strides", "data"} <= set(memlane.schema("arrays").names)
        assert memlane.schema("arrays")["shape"] == np.dtype(("<u8", (8,)))
        for name in ("memory", "bytes"):
            assert memlane.schema(name).base == np.uint8
        with pytest.raises((KeyError, ValueError, TypeError), match="nothing"):
            memlane.schema("plain", "nothing")


def test_a_mutex_of_a_segment_can_be_described(place: Place) -> None:
    with memlane.Segment("account", ACCOUNT, create=True) as segment:
        dtype = memlane.schema("account")
        assert dtype.names == ("id", "balance", "log", "changed")
        with memlane.Segment("account", dtype) as other, other.mutex("balance") as balance:
            balance[...] = 3
        with segment.mutex("balance") as balance:
            assert balance == 3


@pytest.mark.parametrize("dtype", ["O", [("bad", "O")], [("bad", "M8[s]")], [("bad", ">u4")], 5], ids=str)
def test_a_dtype_that_cannot_be_shared_is_refused(place: Place, dtype: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        memlane.Segment("segment", dtype, create=True)
    assert place.names() == []


def test_a_segment_that_is_created_needs_a_dtype(place: Place) -> None:
    with pytest.raises((TypeError, ValueError)):
        memlane.Segment("segment", create=True)
    with pytest.raises((TypeError, ValueError)):
        memlane.Segment("segment", POINT, create=True, tail=3)
    with pytest.raises((TypeError, ValueError)):
        memlane.Segment("segment", POINT, create=True, value="nonsense")
    assert place.names() == []


def test_a_view_of_a_segment_outlives_it(place: Place) -> None:
    segment = memlane.Segment("plain", PLAIN, create=True, value=plain())
    corners = segment.array["corners"]
    del segment
    assert corners["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert place.names() == ["plain"]
    del corners
    assert place.names() == []


def test_a_segment_can_be_kept(place: Place) -> None:
    memlane.Segment("point", POINT, create=True, value=(1, 2), keep=True).close()
    assert memlane.gc() == [] and place.names() == ["point"]
    with memlane.Segment("point", POINT) as segment:
        assert segment.array.tolist() == (1, 2)
    memlane.remove("point")
