"""From a Rust program and back: the `memlane` command sends and receives images and bytes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import memlane
import numpy as np
import png
import pytest
from peers import address, file_at
from place import HANG, Place

FORMATS = {
    "gray8": (1, "u1"),
    "grayalpha8": (2, "u1"),
    "rgb8": (3, "u1"),
    "rgba8": (4, "u1"),
    "gray16": (1, "u2"),
    "grayalpha16": (2, "u2"),
    "rgb16": (3, "u2"),
    "rgba16": (4, "u2"),
}


class Rust:
    """Runs the command."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        out, errors = process.communicate(timeout=HANG)
        assert process.returncode == 0, errors
        return out


@pytest.fixture
def rust(command: str, place: Place) -> Iterator[Rust]:
    rust = Rust(command)
    yield rust
    for process in rust.running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=HANG)
    memlane.gc()


def image(format: str, height: int = 48, width: int = 65) -> np.ndarray:
    channels, dtype = FORMATS[format]
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_images_of_each_format_come_from_rust(rust: Rust, tmp_path: Path) -> None:
    images = {format: image(format) for format in FORMATS}
    files = [png.write(tmp_path / f"{format}.png", images[format]) for format in images]
    process = rust.start("send", "cam", *files, "--timeout", "30s")
    with memlane.Receiver("cam", timeout=HANG) as receiver:
        assert receiver.message == "image"
        for number, (format, sent) in enumerate(images.items(), 1):
            with receiver.recv(HANG) as frame:
                assert (frame.format, frame.shape, frame.array.dtype) == (format, sent.shape, sent.dtype)
                assert (frame.array == sent).all()
                assert frame.sequence == number
        with pytest.raises(memlane.Closed):
            receiver.recv(HANG)
    rust.end(process)


def test_a_4k_image_comes_from_rust_in_place(rust: Rust, place: Place, tmp_path: Path) -> None:
    sent = image("rgb8", 2160, 3840)
    process = rust.start("send", "cam", png.write(tmp_path / "4k.png", sent), "--timeout", "30s")
    with memlane.Receiver("cam", timeout=HANG) as receiver, receiver.recv(HANG) as frame:
        assert file_at(address(frame.array), frame.nbytes) == place.inode("cam")
        assert (frame.array == sent).all()
    rust.end(process)


@pytest.mark.parametrize("format", [*FORMATS, "bgr8", "bgra8"])
def test_an_image_goes_to_rust(rust: Rust, tmp_path: Path, format: str) -> None:
    sent = image(format.replace("bgr", "rgb"))
    with memlane.Sender("cam", message="image", max_message=sent.nbytes) as sender:
        process = rust.start("recv", "cam", "--out", tmp_path, "--timeout", "30s")
        sender.wait_for_receivers(1, HANG)
        first = sender.send(sent, format=format)
        with sender.loan_image(65, 48, format) as pixels:
            pixels[...] = sent[::-1]
        handled = first.wait(HANG)
        assert [(it.who.pid, it.outcome) for it in handled] == [(process.pid, "processed")]
    rust.end(process)
    got = [png.read(tmp_path / f"{number:06}.png") for number in (1, 2)]
    if format.startswith("bgr"):
        sent = sent[..., [2, 1, 0, 3][: sent.shape[2]]]
    assert (got[0] == sent).all() and (got[1] == sent[::-1]).all()


SIZES = [0, 1, 87, 88, 89, 5000, 1 << 20]


def test_bytes_come_from_rust(rust: Rust, tmp_path: Path) -> None:
    files = [tmp_path / f"{size}.bin" for size in SIZES]
    for file, size in zip(files, SIZES, strict=True):
        file.write_bytes(np.random.default_rng(size).bytes(size))
    process = rust.start("send", "raw", "--raw", *files, "--timeout", "30s")
    with memlane.Receiver("raw", timeout=HANG) as receiver:
        assert receiver.message == "bytes"
        for file in files:
            with receiver.recv(HANG) as frame:
                assert bytes(frame) == file.read_bytes()
        with pytest.raises(memlane.Closed):
            receiver.recv(HANG)
    rust.end(process)


def test_bytes_go_to_rust(rust: Rust, tmp_path: Path) -> None:
    messages = [np.random.default_rng(size).bytes(size) for size in SIZES]
    with memlane.Sender("raw", message="bytes", max_message=1 << 20) as sender:
        process = rust.start("recv", "raw", "--raw", "--out", tmp_path, "--timeout", "30s", "--json")
        sender.wait_for_receivers(1, HANG)
        for message in messages:
            sender.send(message, timeout=HANG)
    lines = rust.end(process).splitlines()
    assert len(lines) == len(messages)
    for number, message in enumerate(messages, 1):
        assert (tmp_path / f"{number:06}.bin").read_bytes() == message


def test_each_side_lists_the_other(rust: Rust) -> None:
    process = rust.start("recv", "cam", "--timeout", "30s")
    with memlane.Sender("cam", message="image") as sender, memlane.SharedMemory("memory", create=True, size=10):
        sender.wait_for_receivers(1, HANG)
        (who,) = (it.who for it in sender.receivers())
        assert (who.pid, who.name) == (process.pid, "memlane")
        listed = json.loads(rust.end(rust.start("ls", "--json")))
        assert {it["name"] for it in listed} == {"cam", "memory"}
        here = {it.name: {user.pid for user in it.users} for it in memlane.objects()}
        assert here == {"cam": {os.getpid(), process.pid}, "memory": {os.getpid()}}
    rust.end(process)


def test_a_killed_rust_sender_is_named(rust: Rust, tmp_path: Path) -> None:
    process = rust.start("send", "cam", png.write(tmp_path / "a.png", image("rgb8")), "--timeout", "30s")
    with memlane.Receiver("cam", timeout=HANG) as receiver:
        frame = receiver.recv(HANG)
        process.send_signal(signal.SIGKILL)
        with pytest.raises(memlane.SenderDied, match=f"pid {process.pid} .memlane."):
            receiver.recv(HANG)
        assert (frame.array == image("rgb8")).all()
        frame.release()


def test_a_killed_rust_receiver_is_named_and_python_goes_on(rust: Rust) -> None:
    with memlane.Sender("cam", message="image", slots=1) as sender:
        process = rust.start("recv", "cam", "--timeout", "30s")
        sender.wait_for_receivers(1, HANG)
        process.send_signal(signal.SIGSTOP)
        ticket = sender.send(image("rgb8"), format="rgb8")
        process.send_signal(signal.SIGKILL)
        (handled,) = ticket.wait(HANG)
        assert (handled.who.pid, handled.outcome) in ((process.pid, "died"), (process.pid, "processed"))
        with memlane.Receiver("cam") as receiver:
            if handled.outcome == "died":
                assert (receiver.recv(HANG).array == image("rgb8")).all()


def test_an_image_channel_of_python_refuses_raw_rust_and_the_reverse(rust: Rust, tmp_path: Path) -> None:
    with memlane.Sender("cam", message="image"), memlane.Sender("raw", message="bytes"):
        for arguments in (["cam", "--raw"], ["raw"]):
            process = rust.start("recv", *arguments, "--out", tmp_path, "--timeout", "5s")
            _, errors = process.communicate(timeout=HANG)
            assert process.returncode == 1 and f"'{arguments[0]}'" in errors
