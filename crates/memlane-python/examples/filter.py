"""A filter in Python between two programs of any language: images come by one channel and go on by another, in place.

    memlane recv filtered --out /tmp/filtered    in one terminal
    memlane send photos *.png                    in another
    python filter.py photos filtered             in a third; in any order

`cargo run --release --example filter -- crates/memlane-python/examples/filter.py` runs it between two ends in Rust.
"""

import argparse
import sys
from typing import Any

import memlane
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[Any]


def apply_opencv(name: str, source: Picture, target: Picture) -> None:
    import cv2

    match name:
        case "invert":
            result = cv2.bitwise_not(source, dst=target)
        case "blur":
            result = cv2.GaussianBlur(source, (5, 5), 0, dst=target)
        case _:
            result = cv2.Canny(source, 100, 200, edges=target)
    assert result is target, "OpenCV made an array of its own"


def apply_pillow(name: str, source: Picture, target: Picture) -> None:
    from PIL import Image, ImageFilter

    image = Image.fromarray(source)
    if name == "blur":
        target[:] = image.filter(ImageFilter.GaussianBlur(1.1))
    else:
        target[:] = image.convert("L").filter(ImageFilter.FIND_EDGES)


def apply(name: str, source: Picture, target: Picture) -> None:
    try:
        apply_opencv(name, source, target)
    except ImportError:
        if name == "invert":
            np.invert(source, out=target)
        else:
            apply_pillow(name, source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="the channel that images come by")
    parser.add_argument("target", help="the channel that they go on by")
    parser.add_argument("--filter", choices=["blur", "edges", "invert"], default="blur", help="[default: %(default)s]")
    parser.add_argument("--max-bytes", type=int, default=8 << 20, help="of the largest image [default: %(default)s]")
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for each end [default: 60]")
    arguments = parser.parse_args()

    options: dict[str, Any] = {"slots": 2, "receivers": 1, "claims": 1, "loans": 1}
    with memlane.Sender(arguments.target, message="image", max_message=arguments.max_bytes, **options) as target:
        source = memlane.Receiver(arguments.source, timeout=arguments.timeout)
        target.wait_for_receivers(1, arguments.timeout)
        for image in source:
            with image:  # given back if anything fails: a filter that is started instead gets it
                height, width = image.shape[:2]
                kind = "gray8" if arguments.filter == "edges" else image.format or "gray8"
                with target.loan_image(width, height, kind) as picture:
                    apply(arguments.filter, image.array, picture)


if __name__ == "__main__":
    try:
        main()
    except memlane.Error as error:
        sys.exit(f"filter: {error}")
