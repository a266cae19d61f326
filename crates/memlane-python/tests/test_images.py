"""Images have a pixel format, which says what the array of each is like."""

import memlane
import numpy as np
import pytest
from peers import address, expected, file_at
from place import HANG, Place

FORMATS = {
    "gray8": (1, "u1"),
    "gray16": (1, "u2"),
    "grayalpha8": (2, "u1"),
    "grayalpha16": (2, "u2"),
    "rgb8": (3, "u1"),
    "rgb16": (3, "u2"),
    "rgba8": (4, "u1"),
    "rgba16": (4, "u2"),
    "bgr8": (3, "u1"),
    "bgra8": (4, "u1"),
}
SEE = "seen(receiver.recv(20))"


def picture(format: str, height: int, width: int) -> np.ndarray:
    channels, dtype = FORMATS[format]
    shape = (height, width) if channels == 1 else (height, width, channels)
    top = np.iinfo(dtype).max
    return np.random.default_rng(7).integers(0, top, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_of_each_format_arrives(place: Place, format: str) -> None:
    with memlane.Sender("cam", message="image", max_message=48 * 64 * 8) as sender:
        peer = place.peer()
        assert peer.ask("receiver = memlane.Receiver('cam')") is None
        assert sender.message == "image" == peer.ask("receiver.message")
        for height, width in [(48, 64), (1, 1), (3, 5)]:
            image = picture(format, height, width)
            sender.send(image, format=format, timeout=HANG)
            answer = peer.ask(SEE)
            assert {key: answer[key] for key in expected(image)} == expected(image)
            assert (answer["format"], answer["says"]) == (format, list(image.shape))

            with sender.loan_image(width, height, format, timeout=HANG) as pixels:
                assert (pixels.shape, pixels.dtype) == (image.shape, image.dtype)
                pixels[...] = image
            answer = peer.ask(SEE)
            assert {key: answer[key] for key in expected(image)} == expected(image)
            assert (answer["format"], answer["says"]) == (format, list(image.shape))


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 4), (4, 0)])
def test_an_image_without_pixels_arrives(place: Place, width: int, height: int) -> None:
    with memlane.Sender("cam", message="image") as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('cam')")
        sender.loan_image(width, height, "bgr8").send(HANG)
        answer = peer.ask(SEE)
        assert (answer["shape"], answer["nbytes"], answer["format"]) == ([height, width, 3], 0, "bgr8")


def test_max_message_is_that_of_the_pixels(place: Place) -> None:
    with memlane.Sender("cam", message="image", max_message=6 * 4 * 3) as sender:
        assert sender.max_message == 72
        with pytest.raises(memlane.TooLarge):
            sender.loan_image(7, 4)
        loan = sender.loan_image(6, 4)
        assert (loan.nbytes, loan.array.shape, loan.array.dtype) == (72, (4, 6, 3), np.uint8)
        loan.discard()


def test_images_are_not_copied(place: Place) -> None:
    with memlane.Sender("cam", message="image", max_message=480 * 640 * 3) as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('cam')")
        loan = sender.loan_image(640, 480)
        assert file_at(address(loan.array), loan.array.nbytes) == place.inode("cam")
        loan.send(HANG)
        peer.ask("frame = receiver.recv(20)")
        assert peer.ask("file_at(address(frame.array), frame.array.nbytes)") == place.inode("cam")


def test_a_view_of_an_image_that_is_not_contiguous_arrives(place: Place) -> None:
    with memlane.Sender("cam", message="image") as sender:
        peer = place.peer()
        peer.ask("receiver = memlane.Receiver('cam')")
        image = picture("rgb8", 40, 30)
        for view in (image[::-1, ::2], image[..., ::-1], image.transpose(1, 0, 2), image[5:20, 3:9]):
            sender.send(view, format="rgb8", timeout=HANG)
            answer = peer.ask(SEE)
            assert {key: answer[key] for key in expected(view)} == expected(view)


@pytest.mark.parametrize(
    ("format", "shape", "dtype"),
    [
        ("rgb8", (4, 4), "u1"),
        ("rgb8", (4, 4, 4), "u1"),
        ("rgb8", (4, 4, 3), "u2"),
        ("rgb8", (4, 4, 3), "f4"),
        ("rgb8", (2, 4, 4, 3), "u1"),
        ("gray8", (4, 4, 2), "u1"),
        ("gray16", (4, 4), "u1"),
        ("gray8", (4,), "u1"),
        ("rgba8", (), "u1"),
    ],
)
def test_an_array_that_is_no_image_of_the_format_is_refused(
    place: Place, format: str, shape: tuple[int, ...], dtype: str
) -> None:
    with memlane.Sender("cam", message="image", loans=1) as sender:
        for _ in range(3):
            with pytest.raises((TypeError, ValueError), match=format):
                sender.send(np.zeros(shape, dtype), format=format, timeout=0)
        assert sender.send(np.zeros((4, 4, 3), "u1"), format="rgb8", timeout=0).sequence == 1


@pytest.mark.parametrize("format", ["rgb", "RGB8", "", "yuv420"])
def test_an_unknown_format_is_refused_with_what_there_is(place: Place, format: str) -> None:
    with memlane.Sender("cam", message="image", loans=1) as sender:
        with pytest.raises(ValueError, match="rgba16") as refused:
            sender.loan_image(4, 4, format)
        assert f"{format}" in str(refused.value)
        with pytest.raises(ValueError, match="rgba16"):
            sender.send(np.zeros((4, 4, 3), "u1"), format=format, timeout=0)
        sender.loan_image(4, 4).discard()


@pytest.mark.parametrize(("width", "height"), [(-1, 4), (4, -1), (1 << 32, 1), (1 << 31, 1 << 31), (1 << 70, 1)])
def test_an_impossible_size_is_refused(place: Place, width: int, height: int) -> None:
    with memlane.Sender("cam", message="image", loans=1) as sender:
        for _ in range(3):
            with pytest.raises((ValueError, OverflowError)):
                sender.loan_image(width, height, "gray8")
        sender.loan_image(4, 4).discard()


def test_each_kind_of_channel_refuses_the_loans_of_others(place: Place) -> None:
    with (
        memlane.Sender("images", message="image", loans=1) as images,
        memlane.Sender("arrays", loans=1) as arrays,
        memlane.Sender("bytes", message="bytes", loans=1) as raw,
    ):
        for wrong in (
            lambda: arrays.loan_image(4, 4),
            lambda: raw.loan_image(4, 4),
        ):
            for _ in range(3):
                with pytest.raises(TypeError):
                    wrong()
        with pytest.raises(TypeError):
            arrays.send(np.zeros((4, 4, 3), "u1"), format="rgb8", timeout=0)
        for wrong in ((4,), (4, 4, 5), (2, 4, 4, 3)):
            with pytest.raises(ValueError, match="image"):
                images.loan_array(wrong)
        images.loan_image(4, 4).discard()
        arrays.loan_array(4).discard()
        raw.loan(4).discard()


@pytest.mark.parametrize("format", ["gray8", "gray16", "grayalpha8", "grayalpha16", "rgb8", "rgb16", "rgba8", "rgba16"])
def test_an_array_that_looks_like_an_image_needs_no_format(place: Place, format: str) -> None:
    with memlane.Sender("cam", message="image") as sender, memlane.Receiver("cam") as receiver:
        image = picture(format, 20, 30)
        sender.send(image)
        with receiver.recv(HANG) as frame:
            assert frame.format == format and (frame.array == image).all()
