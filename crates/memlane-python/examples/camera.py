"""A camera: each frame is filled where the viewers read it, and nobody who is slow holds it up.

python camera.py [clip.mp4]     in one terminal
python viewer.py                in others, before or after; up to four
"""

import argparse
import time
from collections.abc import Callable

import memlane
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


def drawn() -> tuple[tuple[int, ...], float, Callable[[Picture], bool]]:
    """The shape, the rate, and what fills a frame: a bar that moves over a gradient."""
    height, width, number = 720, 1280, 0
    gradient = np.linspace(0, 200, width).astype(np.uint8)[:, np.newaxis]

    def fill(frame: Picture) -> bool:
        nonlocal number
        frame[:] = gradient
        frame[:, number % width : number % width + 16] = 255
        number += 8
        return True

    return (height, width, 3), 30.0, fill


def filmed(file: str) -> tuple[tuple[int, ...], float, Callable[[Picture], bool]]:
    """The same from a clip: OpenCV decodes each frame into shared memory."""
    import cv2

    clip = cv2.VideoCapture(file)
    if not clip.isOpened():
        raise SystemExit(f"camera: cannot read {file}")
    shape = (int(clip.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(clip.get(cv2.CAP_PROP_FRAME_WIDTH)), 3)

    def fill(frame: Picture) -> bool:
        there, decoded = clip.read(frame)
        if there and decoded is not frame:
            raise SystemExit(f"camera: {file} has frames of different sizes")
        return there

    return shape, clip.get(cv2.CAP_PROP_FPS) or 30.0, fill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="a clip [default: drawn frames]")
    parser.add_argument("--name", default="camera", help="the channel [default: %(default)s]")
    parser.add_argument("--frames", type=int, default=300, help="how many at most [default: %(default)s]")
    parser.add_argument("--rate", type=float, help="frames per second [default: those of the clip, or 30]")
    arguments = parser.parse_args()

    shape, rate, fill = filmed(arguments.file) if arguments.file else drawn()
    period = 1 / (arguments.rate or rate)
    with memlane.Sender(arguments.name, max_message=int(np.prod(shape)), policy="newest") as camera:
        camera.wait_for_receivers(1)
        due = time.monotonic()
        for _ in range(arguments.frames):
            loan = camera.loan_array(shape)
            if not fill(loan.array):
                loan.discard()
                break
            loan.send()
            due += period
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
