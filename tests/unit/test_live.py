import io
import json
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from tools.runs.live import Terminal, reading


def line(step: int, value: float | None, when: float, **more: object) -> bytes:
    return json.dumps({"name": "loss", "step": step, "value": value, "time": when, **more}).encode() + b"\n"


def test_a_reading_tells_step_values_rate_and_time_left() -> None:
    seen = reading(line(1000, 2.5, 10.0, of=25000) + line(3000, 1.25, 14.0, of=25000))
    assert str(seen) == "step 3,000 of 25,000  loss 1.25  500 steps/s  0:00:44 left"


def test_without_a_total_there_is_no_time_left_and_with_one_line_no_rate() -> None:
    assert str(reading(line(10, None, 1.0))) == "step 10  loss nan"
    assert str(reading(line(10, 1.0, 1.0) + line(11, 1.0, 3.0))) == "step 11  loss 1  0.5 steps/s"


@given(st.binary(max_size=200))
def test_what_is_not_whole_or_not_ours_is_no_error(junk: bytes) -> None:
    reading(junk)
    seen = reading(line(5, 1.0, 1.0) + b"\n" + junk.replace(b"\n", b""))
    assert seen is not None
    assert seen.step >= 0


def shown(columns: int = 80) -> tuple[Terminal, io.BytesIO]:
    stream = io.BytesIO()
    return Terminal(stream, columns=columns), stream


def screen(written: bytes) -> list[str]:
    """What a terminal shows of it, line by line."""
    lines = [""]
    for part in written.decode().replace("\r\x1b[K", "\0").replace("\n", "\0\n").split("\0"):
        if part.startswith("\n"):
            lines.append(part[1:])
        else:
            lines[-1] = part
    return lines


def test_output_stands_above_the_line_and_loses_nothing() -> None:
    terminal, stream = shown()
    terminal.show(b"one\n")
    terminal.line("step 1")
    terminal.show(b"two\n")
    assert screen(stream.getvalue()) == ["one", "two", "step 1"]
    terminal.line("step 2")
    assert screen(stream.getvalue()) == ["one", "two", "step 2"]
    terminal.line("")
    assert screen(stream.getvalue()) == ["one", "two", ""]


def test_the_line_waits_while_a_line_of_the_run_is_not_at_its_end() -> None:
    terminal, stream = shown()
    terminal.show(b"loading ... ")
    terminal.line("step 1")
    terminal.show(b"done\n")
    assert screen(stream.getvalue()) == ["loading ... done", "step 1"]


def test_the_line_is_never_wider_than_the_terminal() -> None:
    terminal, stream = shown(columns=10)
    terminal.line("x" * 50)
    assert stream.getvalue() == b"x" * 9


def test_metrics_are_watched_until_the_end_and_a_failure_is_not_the_runs() -> None:
    terminal, stream = shown()
    read = threading.Event()

    def failing() -> bytes:
        read.set()
        raise OSError("gone")

    with terminal.watching(failing):
        assert read.wait(5)
    with terminal.watching(lambda: line(7, 0.5, 1.0)):
        deadline = time.monotonic() + 5
        while b"step 7" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert b"step 7  loss 0.5" in stream.getvalue()
    assert screen(stream.getvalue()) == [""]
