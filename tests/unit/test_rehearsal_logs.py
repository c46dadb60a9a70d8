import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.rehearsal import logs


@given(
    output=st.binary(max_size=60), kept=st.integers(0, 60), cuts=st.lists(st.integers(0, 60)), limit=st.integers(1, 80)
)
def test_a_log_that_is_begun_again_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, output: bytes, kept: int, cuts: list[int], limit: int
) -> None:
    path = tmp_path_factory.mktemp("logs") / "user_logs" / "std_log.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "LIMIT", limit)
        killed = logs.Log(path)
        killed.write(output[:kept])
        killed.file.close()
        log = logs.Log(path)
        edges = sorted({0, len(output), *(cut for cut in cuts if cut < len(output))})
        for start, end in itertools.pairwise(edges):
            log.write(output[start:end])
        log.close()
    assert path.read_bytes()[:limit] == output[:limit]
    note = path.read_bytes()[limit:].decode()
    assert (f"{len(output) - limit:,} more came" in note) if len(output) > limit else not note


def test_a_log_says_once_what_it_left_out(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(logs, "LIMIT", 10)
    for _ in range(2):  # the second time by a service that goes on
        log = logs.Log(tmp_path / "log")
        log.write(b"0123456789abcdef")
        log.close()
    assert (tmp_path / "log").read_text() == "0123456789\nThe rehearsal keeps 10 bytes of a log; 6 more came.\n"


@given(
    lines=st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=8).filter(lambda text: b"\n" not in text))),
    size=st.integers(1, 9),
)
def test_the_lines_of_several_processes_go_to_a_log_each(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, bytes]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    output = logs.Output([logs.Log(folder / name) for name in logs.names(3)])
    said = b"".join(b"%d %s\n" % line for line in lines) + b"\n= 1 7\n"
    for start in range(0, len(said), size):
        output.write(said[start : start + size])
    output.close()
    for process, name in enumerate(logs.names(3)):
        assert (folder / name).read_bytes() == b"".join(text + b"\n" for number, text in lines if number == process)
    assert list(output.ended) == [(1, 7)]


def test_names_are_those_that_the_sdk_streams() -> None:
    assert logs.names(1) == ["user_logs/std_log.txt"]
    assert logs.names(2)[1] == "user_logs/std_log_process_1.txt"
    assert logs.names(12)[0] == "user_logs/std_log_process_00.txt"
