"""Room that is lent is written by its sender alone, and by nobody once it was sent."""

import gc
import threading

import memlane
import numpy as np
import pytest
from peers import Linked
from place import HANG, Place

SHAPE = (100, 200)


def filled(sender: memlane.Sender, value: int) -> memlane.Ticket:
    return sender.send(np.full(SHAPE, value, "u1"), timeout=HANG)


def test_what_was_sent_cannot_be_written(pair) -> None:
    sender, receiver = pair
    loan = sender.loan_array(SHAPE)
    pixels = loan.array
    slices = [pixels[3:], pixels[::2, 5], pixels.T, pixels.reshape(-1), pixels[0:1][0], pixels.view("u4")]
    pixels[...] = 7
    loan.send(HANG)
    for array in (pixels, *slices):
        with pytest.raises(ValueError):
            array[...] = 1
    assert (receiver.recv(HANG).array == 7).all()


def test_what_was_sent_cannot_be_made_writable_again(pair) -> None:
    sender, _ = pair
    loan = sender.loan_array(SHAPE)
    pixels = loan.array
    slices = [pixels[3:], pixels.T, pixels.reshape(-1)]
    loan.send(HANG)
    for array in (pixels, *slices):
        with pytest.raises(ValueError):
            array.flags.writeable = True


def test_what_was_lent_by_a_block_cannot_be_written_after_it(pair) -> None:
    sender, receiver = pair
    with sender.loan_array(SHAPE) as pixels:
        rows = pixels[10:20]
        rows[...] = 1
        pixels[...] = 7
    for array in (pixels, rows):
        with pytest.raises(ValueError):
            array[0] = 1
    assert (receiver.recv(HANG).array == 7).all()


def test_a_view_that_could_still_write_holds_up_sending(pair) -> None:
    sender, receiver = pair
    loan = sender.loan_array(SHAPE)
    loan.array[...] = 7
    for view in (memoryview(loan), np.asarray(memoryview(loan)), np.asarray(loan)):
        with pytest.raises(BufferError):
            loan.send(HANG)
        assert sender.senders()[0].sent == 0 and loan.ticket is None
        view[0, 0] = 8
        del view
    loan.send(HANG)
    array = receiver.recv(HANG).array
    assert (array[0, 0], array[1, 1]) == (8, 7)


VIEWS = {
    "np.asarray": np.asarray,
    "view as ndarray": lambda array: array.view(np.ndarray),
    "view as another dtype": lambda array: array.view("u2"),
    "memoryview": memoryview,
    "np.frombuffer": lambda array: np.frombuffer(array, "u1"),
    "as_strided": lambda array: np.lib.stride_tricks.as_strided(array, (10,), (1,)),
    "nditer": lambda array: np.nditer(array, op_flags=["readwrite"]).operands[0],
    "flat": lambda array: array.flat,
    "ravel of a slice": lambda array: array[3:].ravel(),
    "asarray of a slice": lambda array: np.asarray(array[3:, 5:]),
    "slice of asarray": lambda array: np.asarray(array)[3:, 5:],
    "ctypes": lambda array: np.ctypeslib.as_ctypes(array),
    "from_dlpack": np.from_dlpack,
}


UNKNOWN = pytest.mark.xfail(strict=True, reason='NumPy tells nobody of these: docs/DESIGN.md, "Limits"')
MAKERS = [
    pytest.param(make, id=name, marks=[UNKNOWN] if name in ("memoryview", "asarray of a slice") else [])
    for name, make in VIEWS.items()
]


@pytest.mark.parametrize("make", MAKERS)
def test_however_a_view_was_made_it_does_not_write_what_was_sent(pair, make) -> None:
    sender, receiver = pair
    loan = sender.loan_array(SHAPE)
    loan.array[...] = 7
    view = make(loan.array)
    try:
        loan.send(HANG)
    except BufferError:
        assert sender.senders()[0].sent == 0
        del view
        gc.collect()
        loan.send(HANG)
    else:
        with pytest.raises((ValueError, TypeError)):
            view[(0,) * getattr(view, "ndim", 1)] = 1
    assert (receiver.recv(HANG).array == 7).all()


def test_a_loan_can_be_sent_or_discarded_once(pair) -> None:
    sender, _ = pair
    sent, discarded = sender.loan_array(SHAPE), sender.loan_array(SHAPE)
    sent.send(HANG)
    discarded.discard()
    for loan in (sent, discarded):
        for call in (loan.send, lambda loan=loan: loan.array, lambda loan=loan: memoryview(loan), loan.__enter__):
            with pytest.raises((memlane.Released, BufferError)):
                call()
    assert sender.senders()[0].sent == 1


def test_an_exception_in_the_block_of_a_loan_sends_nothing(pair) -> None:
    sender, receiver = pair
    for _ in range(10):  # more often than there are loans
        with pytest.raises(LookupError), sender.loan_array(SHAPE) as pixels:
            pixels[...] = 1
            raise LookupError
        pixels[...] = 2  # it is nobody else's as long as it is there
    assert receiver.try_recv() is None and sender.senders()[0].sent == 0
    filled(sender, 7)
    assert (receiver.recv(HANG).array == 7).all()


def test_loans_that_are_discarded_or_dropped_leave_room_for_others(pair) -> None:
    sender, receiver = pair
    for _ in range(20):
        sender.loan_array(SHAPE).discard()
        loan = sender.loan_array(SHAPE)
        loan.array[...] = 1
        del loan
    assert receiver.try_recv() is None


def test_a_loan_outlives_its_sender(place: Place) -> None:
    sender = memlane.Sender("cam")
    receiver = memlane.Receiver("cam")
    loan = sender.loan_array(SHAPE)
    sender.close()
    del sender
    loan.array[...] = 7
    loan.send(HANG)
    assert (receiver.recv(HANG).array == 7).all()
    with pytest.raises(memlane.Closed):
        receiver.recv()
    receiver.close()


def test_loans_in_cycles_are_given_back_by_the_collector(pair) -> None:
    sender, _ = pair
    for _ in range(20):
        loan = sender.loan_array(SHAPE)
        array = loan.array.view(Linked)
        array.link = [loan, array]
        del loan, array
        gc.collect()
    assert sender.senders()[0].sent == 0


def test_an_array_of_a_loan_that_was_not_sent_keeps_its_memory(place: Place) -> None:
    sender = memlane.Sender("cam", slots=1, max_message=4096, loans=2)
    receiver = memlane.Receiver("cam")
    sender.send(np.zeros(4096, "u1"))
    loan = sender.loan_array(4096)
    array = loan.array
    array[...] = 7
    with pytest.raises(memlane.Full):
        loan.send(0)
    loan.discard()
    with sender.loan_array(4096) as other:
        other[...] = 9
        receiver.recv(HANG).release()
    sender.close()
    receiver.close()
    assert (array == 7).all()


def test_a_loan_that_was_not_sent_can_be_filled_anew_and_sent(pair) -> None:
    sender, receiver = pair
    held = []
    while True:
        loan = sender.loan_array(SHAPE)
        loan.metadata = b"first"
        array = loan.array
        try:
            held.append(loan.send(0))
        except memlane.Full:
            break
    with pytest.raises(ValueError):
        array[...] = 1
    loan.array[...] = 5
    loan.metadata = b""
    for _ in held:
        receiver.recv(HANG).release()
    loan.send(HANG)
    frame = receiver.recv(HANG)
    assert (frame.array == 5).all() and frame.metadata == b""


def test_threads_that_ask_for_the_array_get_one(pair) -> None:
    sender, receiver = pair
    for _ in range(300):
        loan = sender.loan_array(SHAPE)
        start = threading.Barrier(4)
        arrays = []

        def ask(loan=loan, start=start, arrays=arrays) -> None:
            start.wait(HANG)
            arrays.append(loan.array)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert len({id(array) for array in arrays}) == 1
        loan.send(HANG)
        receiver.recv(HANG).release()
        assert not any(array.flags.writeable for array in arrays)


def test_copies_of_what_was_lent_stay_writable(pair) -> None:
    sender, _ = pair
    loan = sender.loan_array(SHAPE)
    copies = [loan.array.copy(), loan.array.astype("i4"), loan.array + 1]
    parts = [copy[3:] for copy in copies]
    loan.send(HANG)
    for array in (*copies, *parts):
        array[...] = 1


def test_a_single_record_cannot_be_written_after_it_was_sent(place: Place) -> None:
    point = memlane.struct("Point", [("x", "f8"), ("y", "f8")])
    with memlane.Sender("points", message=point) as sender, memlane.Receiver("points") as receiver:
        loan = sender.loan()
        record = loan.array[()]
        record["x"] = 1
        loan.send(HANG)
        with pytest.raises(ValueError):
            record["x"] = 99
        assert receiver.recv(HANG).array["x"] == 1
