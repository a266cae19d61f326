"""Other array libraries see a frame in place, and cannot write it."""

import gc

import memlane
import numpy as np
import pytest
from peers import address, file_at
from place import HANG, Place

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]
CPU = (1, 0)


def received(pair, array: np.ndarray) -> memlane.Frame:
    sender, receiver = pair
    sender.send(array, timeout=HANG)
    return receiver.recv(HANG)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_sees_a_frame_of_each_dtype_in_place(place: Place, pair, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    frame = received(pair, array)
    seen = np.from_dlpack(frame)
    assert (seen.dtype, seen.shape) == (array.dtype, array.shape)
    assert seen.tobytes() == array.tobytes()
    assert address(seen) == address(frame.array)
    assert file_at(address(seen)) == place.inode("cam")
    assert frame.__dlpack_device__() == CPU


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (1,) * 8, (2, 1, 3)], ids=str)
def test_numpy_sees_a_frame_of_each_shape(pair, shape: tuple[int, ...]) -> None:
    array = np.full(shape, 5, "i4")
    seen = np.from_dlpack(received(pair, array))
    assert seen.shape == shape and (seen == array).all()


def test_an_image_and_bytes_can_be_seen_too(place: Place) -> None:
    with memlane.Sender("images", message="image") as sender, memlane.Receiver("images") as receiver:
        image = np.arange(48, dtype="u1").reshape(4, 4, 3)
        sender.send(image, format="rgb8")
        assert (np.from_dlpack(receiver.recv(HANG)) == image).all()
    with memlane.Sender("raw", message="bytes") as sender, memlane.Receiver("raw") as receiver:
        for data in (b"small", b"large" * 100):
            sender.send(data)
            assert np.from_dlpack(receiver.recv(HANG)).tobytes() == data


def test_what_is_seen_of_a_frame_cannot_be_written(pair) -> None:
    seen = np.from_dlpack(received(pair, np.arange(100)))
    assert not seen.flags.writeable
    with pytest.raises(ValueError):
        seen[0] = 1
    with pytest.raises(ValueError):
        seen.flags.writeable = True


def test_what_is_seen_keeps_the_frame(pair) -> None:
    sender, _ = pair
    frame = received(pair, np.full(1000, 7))
    seen = np.from_dlpack(frame)
    with pytest.raises(BufferError):
        frame.release()
    del frame
    gc.collect()
    assert sender.receivers()[0].claims == 1 and (seen == 7).all()
    del seen
    assert sender.receivers()[0].claims == 0


def test_a_consumer_that_cannot_be_told_to_only_read_is_refused(pair) -> None:
    frame = received(pair, np.arange(100))
    for arguments in ({}, {"max_version": None}, {"max_version": (0, 8)}):
        with pytest.raises(BufferError):
            frame.__dlpack__(**arguments)
    frame.release()


def test_a_consumer_that_cannot_be_told_to_only_read_can_have_a_copy(pair) -> None:
    class Old:
        """Asks as consumers did before version 1.0, but for a copy."""

        def __init__(self, frame: memlane.Frame) -> None:
            self.frame = frame

        def __dlpack__(self, **_: object) -> object:
            return self.frame.__dlpack__(copy=True)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.frame.__dlpack_device__()

    frame = received(pair, np.arange(100))
    copy = np.from_dlpack(Old(frame))
    frame.release()
    assert copy.tolist() == list(range(100)) and file_at(address(copy)) == 0


def test_a_copy_is_of_its_owner_alone(pair) -> None:
    frame = received(pair, np.arange(100))
    copy = np.from_dlpack(frame, copy=True)
    frame.release()
    assert copy.tolist() == list(range(100))
    assert file_at(address(copy)) == 0


def test_a_frame_is_not_copied_where_no_copy_is_wanted(pair) -> None:
    frame = received(pair, np.arange(100))
    assert address(np.from_dlpack(frame, copy=False)) == address(frame.array)


def test_a_frame_is_on_the_processor_only(pair) -> None:
    frame = received(pair, np.arange(100))
    assert np.from_dlpack(frame, device="cpu").tolist() == list(range(100))
    with pytest.raises(BufferError):
        frame.__dlpack__(max_version=(1, 0), dl_device=(2, 0))
    assert frame.__dlpack__(max_version=(1, 0), dl_device=CPU)


@pytest.mark.parametrize("version", [(1, 0), (1, 1), (2, 0)], ids=str)
def test_a_capsule_that_nobody_takes_gives_the_frame_back(pair, version: tuple[int, int]) -> None:
    sender, _ = pair
    frame = received(pair, np.arange(100))
    capsule = frame.__dlpack__(max_version=version)
    assert "dltensor_versioned" in repr(capsule)
    with pytest.raises(BufferError):
        frame.release()
    del capsule
    frame.release()
    assert sender.receivers()[0].claims == 0


def test_a_loan_can_be_filled_by_others(pair) -> None:
    sender, receiver = pair
    loan = sender.loan_array((4, 5), "f4")
    room = np.from_dlpack(loan)
    assert room.flags.writeable and address(room) == address(loan.array)
    room[...] = 2.5
    del room
    loan.send(HANG)
    assert (receiver.recv(HANG).array == np.float32(2.5)).all()


def test_a_loan_that_others_have_is_not_sent(pair) -> None:
    sender, receiver = pair
    loan = sender.loan_array(10)
    for make in (np.from_dlpack, lambda loan: loan.__dlpack__(), lambda loan: loan.__dlpack__(max_version=(1, 0))):
        others = make(loan)
        with pytest.raises(BufferError):
            loan.send(HANG)
        with pytest.raises(BufferError):
            loan.__exit__(None, None, None)
        assert receiver.try_recv() is None
        del others
    loan.array[...] = 3
    loan.send(HANG)
    assert (receiver.recv(HANG).array == 3).all()


def test_an_old_consumer_can_fill_a_loan(pair) -> None:
    class Old:
        """Asks as consumers did before version 1.0."""

        def __init__(self, loan: memlane.Loan) -> None:
            self.loan = loan

        def __dlpack__(self, **_: object) -> object:
            return self.loan.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.loan.__dlpack_device__()

    sender, receiver = pair
    loan = sender.loan_array((4, 5), "f4")
    loan.array[...] = 2
    room = np.from_dlpack(Old(loan))
    assert address(room) == address(loan.array) and (room == 2).all()
    with pytest.raises(BufferError):
        loan.send(HANG)
    del room
    loan.send(HANG)
    assert (receiver.recv(HANG).array == 2).all()


def test_a_record_has_no_word_in_dlpack(place: Place) -> None:
    dtype = np.dtype([("x", "f8"), ("y", "f8")])
    with memlane.Sender("points", message=dtype) as sender, memlane.Receiver("points") as receiver:
        sender.send(np.zeros((), dtype))
        frame = receiver.recv(HANG)
        with pytest.raises((BufferError, TypeError)):
            frame.__dlpack__(max_version=(1, 0))


def test_torch_sees_a_frame_in_place(place: Place, pair) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    frame = received(pair, np.arange(24, dtype="f4").reshape(4, 6))
    tensor = torch.from_dlpack(frame)
    assert tensor.tolist() == np.arange(24).reshape(4, 6).tolist()
    assert tensor.data_ptr() == address(frame.array)
    del tensor
    frame.release()


def test_torch_fills_a_loan(pair) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    sender, receiver = pair
    loan = sender.loan_array((4, 6), "f4")
    tensor = torch.from_dlpack(loan)
    tensor.copy_(torch.arange(24, dtype=torch.float32).reshape(4, 6))
    with pytest.raises(BufferError):
        loan.send(HANG)
    del tensor
    loan.send(HANG)
    assert receiver.recv(HANG).array.tolist() == np.arange(24).reshape(4, 6).tolist()
