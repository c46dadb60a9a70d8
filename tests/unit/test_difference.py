import hashlib
import io
import tarfile
from pathlib import Path

from tools.image import archive, difference
from tools.image.archive import Layer


def layer(folder: Path, files: dict[str, bytes], *, mode: int = 0o644, time: int = 0) -> Layer:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, time
            tar.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = folder / digest
    path.write_bytes(buffer.getvalue())
    return Layer(diff_id=f"sha256:{digest}", path=path, size=path.stat().st_size, comment="x")


def saved(folder: Path, name: str, *layers: Layer, label: str = "a") -> str:
    path = folder / name
    assembly = archive.assemble(layers, platform="linux-64", environment={}, labels={"label": label})
    path.write_bytes(b"".join(archive.stream(assembly)))
    return str(path)


def told(one: str, two: str) -> list[str]:
    def no_engine() -> None:
        raise AssertionError("files need no engine")

    return list(difference.between(one, two, client=no_engine))


def test_the_same_image_has_no_difference(tmp_path: Path) -> None:
    made = layer(tmp_path, {"a": b"1"})
    assert told(saved(tmp_path, "one", made), saved(tmp_path, "two", made)) == []


def test_the_first_byte_that_differs_is_shown(tmp_path: Path) -> None:
    base = layer(tmp_path, {"base": b"same"})
    one = layer(tmp_path, {"lib/a.py": b"print(1)", "lib/b.py": b"x = 1\n"})
    two = layer(tmp_path, {"lib/a.py": b"print(1)", "lib/b.py": b"x = 2\n"})
    lines = told(saved(tmp_path, "one", base, one), saved(tmp_path, "two", base, two))
    assert lines[0].startswith("layer 1: ")
    assert lines[1].startswith("  lib/b.py: content ")
    assert lines[2] == "    from byte 4: b'x = 1\\n' / b'x = 2\\n'"
    assert len(lines) == 3


def test_files_modes_times_and_order_are_told(tmp_path: Path) -> None:
    one = saved(tmp_path, "one", layer(tmp_path, {"a": b"1", "b": b"2"}))
    gone = told(one, saved(tmp_path, "two", layer(tmp_path, {"a": b"1"})))
    assert gone[1] == "  b: only in the first"
    mode = told(one, saved(tmp_path, "two", layer(tmp_path, {"a": b"1", "b": b"2"}, mode=0o600, time=9)))
    assert mode[1] == "  a: mode 644 / 600, time 0 / 9"
    order = told(one, saved(tmp_path, "two", layer(tmp_path, {"b": b"2", "a": b"1"})))
    assert order[1:] == ["  the same files in another order"]


def test_another_label_or_a_layer_more_is_told(tmp_path: Path) -> None:
    one = layer(tmp_path, {"a": b"1"})
    two = layer(tmp_path, {"b": b"1"})
    lines = told(saved(tmp_path, "one", one), saved(tmp_path, "two", one, two, label="b"))
    assert lines[0] == 'config.Labels: {"label": "a"} / {"label": "b"}'
    assert any(line.startswith("layer 1: only in ") for line in lines)
