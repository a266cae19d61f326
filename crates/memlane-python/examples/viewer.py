"""Looks at what camera.py sends, in place, and with --save writes it as PNG.

python camera.py                         in one terminal
python viewer.py [--save /tmp/frames]    in another, before or after
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import memlane
import numpy.typing as npt


def save(file: Path, picture: npt.NDArray[Any]) -> None:
    try:
        import cv2
    except ImportError:
        raise SystemExit("viewer: --save needs OpenCV: pip install opencv-python-headless") from None
    cv2.imwrite(str(file), picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="camera", help="the channel [default: %(default)s]")
    parser.add_argument("--save", type=Path, metavar="DIR", help="the folder to write to")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for a camera [default: %(default)s]")
    arguments = parser.parse_args()
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)

    received = missed = 0
    for frame in memlane.Receiver(arguments.name, timeout=arguments.timeout):
        with frame:
            print(f"frame {frame.sequence}: {frame.shape}, mean {frame.array.mean():.1f}, {frame.missed} missed before")
            if arguments.save:
                save(arguments.save / f"{frame.sequence:06}.png", frame.array)
            received += 1
            missed += frame.missed
    print(f"{received} frames seen, {missed} missed")


if __name__ == "__main__":
    try:
        main()
    except (memlane.SenderDied, TimeoutError) as error:
        sys.exit(f"viewer: {error}")
