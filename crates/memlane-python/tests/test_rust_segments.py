"""Segments that a Rust program made (examples/state.rs): read and changed without its source, under its locks."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import memlane
import numpy as np
import pytest
from place import HANG, Place

POSE = memlane.struct("Pose", [("stamp", "u8"), ("position", "f8", (3,))])
FIELDS = [("serial", "u4"), ("pose", memlane.mutex(POSE)), ("moved", memlane.condition()), ("readings", "f4", (0,))]
ROBOT = memlane.struct("Robot", FIELDS)


class Robot:
    """The program that makes the segment."""

    def __init__(self, program: Path) -> None:
        assert program.exists(), f"{program} is missing: cargo build --example state"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([str(program), "robot"], text=True, bufsize=1, **pipes)
        assert self.process.stdout and self.process.stdout.readline() == "robot 42 is in 'robot'\n"

    def move(self) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=HANG)


@pytest.fixture
def robot(command: str, place: Place) -> Iterator[Robot]:
    robot = Robot(Path(command).parent / "examples/state")
    yield robot
    if robot.process.poll() is None:
        _, errors = robot.process.communicate(timeout=HANG)
        assert (robot.process.returncode, errors) == (0, "")
    memlane.gc()


def test_its_dtype_is_what_rust_says(robot: Robot) -> None:
    dtype = memlane.schema("robot")
    assert dtype.names == ("serial", "pose", "moved", "readings")
    assert dtype["readings"] == np.dtype(("f4", (5,)))
    assert dtype["pose"]["data"] == POSE
    with memlane.Segment("robot") as segment:
        assert segment.dtype == dtype
        assert segment.array["serial"] == 42
        assert segment.array["readings"].tolist() == [1, 2, 3, 4, 5]


def test_a_dtype_of_ones_own_is_checked(robot: Robot) -> None:
    with memlane.Segment("robot", ROBOT) as segment:
        assert segment.array["serial"] == 42
    other = memlane.struct("Robot", [("serial", "u8"), *FIELDS[1:]])
    with pytest.raises(memlane.TypeMismatch, match="`serial`.*u32.*u64"):
        memlane.Segment("robot", other)


def test_both_change_it_under_the_same_lock(robot: Robot) -> None:
    with memlane.Segment("robot") as segment:
        pose = segment.mutex("pose")
        assert robot.move() == "1 [0.5, 0.0, 0.0]\n"
        with pose as data:
            assert (data["stamp"], data["position"].tolist()) == (1, [0.5, 0, 0])
            data["position"][1] = 7
        assert robot.move() == "2 [1.0, 7.0, 0.0]\n"


def test_python_waits_for_what_rust_notifies(robot: Robot) -> None:
    with memlane.Segment("robot") as segment:
        pose = segment.mutex("pose")
        moved = segment.condition("moved", pose)
        with pose as data:
            assert robot.process.stdin
            robot.process.stdin.write("\n")
            robot.process.stdin.flush()
            assert moved.wait_for(lambda: data["stamp"] == 1, HANG)


def test_rust_is_told_that_python_left_it_half_changed(robot: Robot) -> None:
    with memlane.Segment("robot") as segment:
        with pytest.raises(KeyError), segment.mutex("pose") as data:
            data["position"][:] = 9
            raise KeyError
        assert robot.move() == "1 [0.5, 0.0, 0.0]\n", "it was repaired"


def test_what_rust_made_is_there_when_it_was_killed(robot: Robot) -> None:
    with memlane.Segment("robot") as segment:
        robot.move()
        robot.kill()
        with segment.mutex("pose") as data:
            assert data["stamp"] == 1
