import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fake_engine
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import tools.project
from tools import engine, offline, settings
from tools.errors import HashMismatchError, ImageError, OfflineError, ParityError
from tools.image import base, saved, upstream
from tools.offline import base as stand_in
from tools.settings import Settings

Packer = Callable[..., Path]


def tar(files: dict[str, bytes], *, mtime: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), mtime
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def config(layers: Sequence[bytes], architecture: str = "amd64") -> bytes:
    diff_ids = [f"sha256:{digest(layer)}" for layer in layers]
    return json.dumps({"architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()


def legacy(path: Path, layers: Sequence[bytes], architecture: str = "amd64") -> Path:
    """As Docker up to 24 saves: ID/layer.tar, and a link where a layer comes again."""
    image = config(layers, architecture)
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "image.json", "RepoTags": ["a:b"], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
            first = layers.index(layer)
            entry = tarfile.TarInfo(name)
            if first < number:
                entry.type, entry.linkname = tarfile.SYMTYPE, f"../{names[first]}"
                archive.addfile(entry)
            else:
                entry.size = len(layer)
                archive.addfile(entry, io.BytesIO(layer))
        add(archive, "image.json", image)
        add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def oci(
    path: Path, layers: Sequence[bytes], architecture: str = "amd64", pack: Callable[[bytes], bytes] = lambda x: x
) -> Path:
    """As Docker since 25 saves: blobs by digest; with containerd's store they may be compressed."""
    other, image = config([], "s390x"), config(layers, architecture)
    blobs = [pack(layer) for layer in layers]
    manifest = [
        {"Config": f"blobs/sha256/{digest(other)}", "Layers": []},
        {"Config": f"blobs/sha256/{digest(image)}", "Layers": [f"blobs/sha256/{digest(blob)}" for blob in blobs]},
    ]
    with tarfile.open(path, "w") as archive:
        for blob in dict.fromkeys([*blobs, other, image]):
            add(archive, f"blobs/sha256/{digest(blob)}", blob)
        add(archive, "manifest.json", json.dumps(manifest).encode())
        add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


LAYERS = [tar({"etc/issue": b"one"}), tar({"bin/bash": b"two"}), tar({"etc/issue": b"one"})]


PACKERS: list[Packer] = [
    legacy,
    oci,
    lambda path, layers: oci(path, layers, pack=gzip.compress),
    lambda path, layers: oci(path, layers, pack=zstandard.compress),
]


@pytest.mark.parametrize("pack", PACKERS, ids=["up to 24", "since 25", "gzip", "zstd"])
def test_the_layers_of_a_saved_image_come_out_as_they_went_in(tmp_path: Path, pack: Packer) -> None:
    target = tmp_path / "layers"
    target.mkdir()
    found = saved.unpack(pack(tmp_path / "image.tar", LAYERS), target, architecture="amd64").layers
    assert [(each.sha256, each.size) for each in found] == [(digest(layer), len(layer)) for layer in LAYERS]
    assert [(target / f"{each.sha256}.tar").read_bytes() for each in found] == LAYERS
    assert len(list(target.iterdir())) == 2  # the first and the third are one


@pytest.mark.parametrize("pack", [legacy, oci])
def test_a_layer_that_the_config_does_not_name_is_refused(tmp_path: Path, pack: Packer) -> None:
    target = tmp_path / "layers"
    target.mkdir()
    archive = pack(tmp_path / "image.tar", LAYERS)
    archive.write_bytes(archive.read_bytes().replace(b"two", b"2wo"))
    with pytest.raises(HashMismatchError) as caught:
        saved.unpack(archive, target, architecture="amd64")
    assert digest(LAYERS[1]) in (caught.value.expected or "")
    assert not (target / f"{digest(LAYERS[1])}.tar").exists()


def test_an_image_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="arm64"):
        saved.unpack(legacy(tmp_path / "image.tar", LAYERS), tmp_path, architecture="arm64")


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "blobs", "missing", ""])
def test_no_name_in_the_archive_becomes_a_file_here(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    layer = tar({"etc/issue": b"one"})
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        if name not in ("blobs", "missing", ""):
            add(archive, name, layer)
        directory = tarfile.TarInfo("blobs")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        add(archive, "image.json", config([layer]))
        add(archive, "manifest.json", json.dumps([{"Config": "image.json", "Layers": [name]}]).encode())
    try:
        found = saved.unpack(tmp_path / "image.tar", folder, architecture="amd64").layers
    except ImageError:
        assert not list(folder.iterdir())
    else:
        assert [path.name for path in folder.iterdir()] == [f"{found[0].sha256}.tar"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "inside"]


def test_a_diff_id_that_is_a_path_is_refused(tmp_path: Path) -> None:
    layer = tar({})
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        add(archive, "layer", layer)
        image = {"architecture": "amd64", "rootfs": {"diff_ids": ["sha256:../../escaped"]}}
        add(archive, "image.json", json.dumps(image).encode())
        add(archive, "manifest.json", json.dumps([{"Config": "image.json", "Layers": ["layer"]}]).encode())
    with pytest.raises(HashMismatchError):
        saved.unpack(tmp_path / "image.tar", tmp_path, architecture="amd64")
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]


@pytest.mark.parametrize("target", ["../0/layer.tar", "../../../etc/passwd", "/etc/passwd"])
def test_a_link_leads_to_a_file_of_the_archive_or_nowhere(tmp_path: Path, target: str) -> None:
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        link = tarfile.TarInfo("0/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, target
        archive.addfile(link)
        add(archive, "image.json", config([b""]))
        add(archive, "manifest.json", json.dumps([{"Config": "image.json", "Layers": ["0/layer.tar"]}]).encode())
    with pytest.raises(ImageError):
        saved.unpack(tmp_path / "image.tar", tmp_path, architecture="amd64")
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]


@given(pack=st.sampled_from(PACKERS), data=st.data())
def test_a_cut_or_garbled_archive_is_never_believed(
    tmp_path_factory: pytest.TempPathFactory, pack: Packer, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("garbled")
    content = bytearray(pack(folder / "image.tar", LAYERS).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    (folder / "image.tar").write_bytes(content)
    try:
        found = saved.unpack(folder / "image.tar", folder, architecture="amd64").layers
    except ParityError:
        return
    # where it is believed, every layer is what its name says
    assert [each.sha256 for each in found] == [digest((folder / f"{each.sha256}.tar").read_bytes()) for each in found]
    assert len(found) == len(LAYERS)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_compressed_layer_that_is_damaged_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    def damaged(layer: bytes) -> bytes:
        packed = bytearray(compress(layer))
        packed[12:20] = bytes(8 * [0xFF])
        return bytes(packed)

    layer = tar({"noise": os.urandom(10_000)})
    with pytest.raises(ParityError):
        saved.unpack(oci(tmp_path / "image.tar", [layer], pack=damaged), tmp_path, architecture="amd64")
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]


def test_the_same_files_give_the_same_layer_whenever_they_were_written(tmp_path: Path) -> None:
    found = []
    for mtime in (1, 2_000_000_000):
        layer = tar({"etc/issue": b"one", "var/lib/dpkg/status": b"two"}, mtime=mtime)
        (tmp_path / f"{digest(layer)}.tar").write_bytes(layer)
        found.append(saved.normalise(saved.Tar(sha256=digest(layer), size=len(layer)), tmp_path))
    assert found[0] == found[1]
    path = tmp_path / f"{found[0].sha256}.tar"
    assert digest(path.read_bytes()) == found[0].sha256
    assert path.stat().st_size == found[0].size
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["etc/issue", "var/lib/dpkg/status"]
        assert archive.extractfile("etc/issue").read() == b"one"  # type: ignore[union-attr]


def test_links_owners_modes_and_capabilities_survive_normalising(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("bin/ping")
        entry.mode, entry.uid, entry.gid, entry.uname, entry.size = 0o4755, 0, 42, "builder", 1
        entry.pax_headers = {"SCHILY.xattr.security.capability": "caps", "mtime": "1.5", "atime": "2.5"}
        archive.addfile(entry, io.BytesIO(b"x"))
        hard = tarfile.TarInfo("bin/ping6")
        hard.type, hard.linkname = tarfile.LNKTYPE, "bin/ping"
        archive.addfile(hard)
        soft = tarfile.TarInfo("bin/p")
        soft.type, soft.linkname = tarfile.SYMTYPE, "ping"
        archive.addfile(soft)
        archive.addfile(tarfile.TarInfo("etc/.wh.gone"))
    (tmp_path / f"{digest(out.getvalue())}.tar").write_bytes(out.getvalue())
    found = saved.normalise(saved.Tar(sha256=digest(out.getvalue()), size=len(out.getvalue())), tmp_path)
    with tarfile.open(tmp_path / f"{found.sha256}.tar") as archive:
        ping, hard, soft, gone = archive.getmembers()
    assert (ping.mode, ping.uid, ping.gid, ping.uname) == (0o4755, 0, 42, "")
    assert ping.pax_headers == {"SCHILY.xattr.security.capability": "caps"}
    assert (hard.islnk(), hard.linkname, soft.issym(), soft.linkname) == (True, "bin/ping", True, "ping")
    assert gone.name == "etc/.wh.gone"


# --- which base


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM --platform=$BUILDPLATFORM some:base\nRUN true\n")
    (tmp_path / "docker" / "packages.txt").write_text("# why\nbash  # because\nca-certificates\n")
    (tmp_path / "parity.toml").touch()
    monkeypatch.delenv(offline.VARIABLE, raising=False)
    offline._say.cache_clear()
    return settings.load(tmp_path)


class Registry:
    """Counts how often it is asked, and answers or not."""

    def __init__(self, answers: bool) -> None:
        self.answers, self.asked = answers, 0

    def __call__(self, client: object, reference: str) -> bool:
        assert reference == "some:base"
        self.asked += 1
        return self.answers


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The packages of each stand-in that was made."""
    calls: list[tuple[str, ...]] = []

    def make(packages: Sequence[str], path: Path, *, platform: str) -> None:
        calls.append(tuple(packages))
        path.write_bytes(tar({"etc/packages": " ".join(packages).encode()}))

    monkeypatch.setattr(stand_in, "make", make)
    return calls


def registry(monkeypatch: pytest.MonkeyPatch, answers: bool) -> Registry:
    found = Registry(answers)
    monkeypatch.setattr(upstream, "has_or_reaches", found)
    return found


CLIENT: object = object()


def test_a_stand_in_is_made_once_and_then_neither_made_nor_asked_for(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = registry(monkeypatch, answers=False)
    first = base.get(project, client=CLIENT)  # type: ignore[arg-type]
    started = time.perf_counter()
    second = base.get(project, client=CLIENT)  # type: ignore[arg-type]
    assert time.perf_counter() - started < 0.05
    assert first == second
    assert made == [("bash", "ca-certificates")]
    assert asked.asked == 1
    assert first.stand_ins == (offline.BASE,)
    (layer,) = first.layers
    assert layer.diff_id == f"sha256:{digest(layer.path.read_bytes())}"
    assert layer.size == layer.path.stat().st_size
    assert "docker/packages.txt" in layer.comment


def test_the_stand_in_says_so_each_time(
    project: Settings,
    made: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry(monkeypatch, answers=False)
    for _ in range(2):
        caplog.clear()
        offline._say.cache_clear()  # another run
        base.get(project, client=CLIENT)  # type: ignore[arg-type]
        assert "PARITY_OFFLINE=never" in caplog.text


def test_a_cached_stand_in_gives_way_once_the_registry_answers_again(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(monkeypatch, answers=False)
    base.get(project, client=CLIENT)  # type: ignore[arg-type]
    back = registry(monkeypatch, answers=True)
    built: list[Path] = []

    def build(recipe: object, folder: Path, client: object) -> base.Base:
        built.append(folder)
        return base.Base(layers=(), stand_ins=())

    monkeypatch.setattr(base, "_build", build)
    assert base.get(project, client=CLIENT).stand_ins  # type: ignore[arg-type]
    assert back.asked == 0
    stamp = next((project.cache / "base").glob("registry-asked"))
    old = time.time() - base.TRUST_SECONDS - 1
    os.utime(stamp, (old, old))
    assert not base.get(project, client=CLIENT).stand_ins  # type: ignore[arg-type]
    assert back.asked == 1
    assert len(built) == 1


def keep_real(project: Settings) -> None:
    """As if the Dockerfile had been built here before."""
    folder = base._recipe(project).kept("image")
    layer = tar({"etc/issue": b"real"})
    folder.mkdir(parents=True)
    (folder / f"{digest(layer)}.tar").write_bytes(layer)
    base._write(folder, [saved.Tar(sha256=digest(layer), size=len(layer))], ["some:base"], None)


def test_a_cached_base_of_the_dockerfile_needs_neither_engine_nor_network(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_real(project)
    asked = registry(monkeypatch, answers=False)
    found = base.get(project, client=None)
    assert (found.stand_ins, made, asked.asked) == ((), [], 0)
    assert found.layers[0].comment == "some:base"


def test_a_dockerfile_that_changed_is_not_answered_from_the_cache(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_real(project)
    registry(monkeypatch, answers=False)
    (project.root / "docker" / "Dockerfile").write_text("FROM some:base\nRUN false\n")
    assert base.get(project, client=CLIENT).stand_ins  # type: ignore[arg-type]


def test_the_stand_in_is_used_where_it_is_wanted_though_a_real_base_is_cached(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_real(project)
    asked = registry(monkeypatch, answers=True)
    monkeypatch.setenv(offline.VARIABLE, "always")
    assert base.get(project, client=CLIENT).stand_ins == (offline.BASE,)  # type: ignore[arg-type]
    assert asked.asked == 0


@pytest.mark.parametrize("answers", [True, False])
def test_where_the_stand_in_is_refused_the_registry_is_asked_at_once(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    registry(monkeypatch, answers=False)
    base.get(project, client=CLIENT)  # type: ignore[arg-type]
    asked = registry(monkeypatch, answers=answers)
    monkeypatch.setattr(base, "_build", lambda *_: base.Base(layers=(), stand_ins=()))
    monkeypatch.setenv(offline.VARIABLE, "never")
    if answers:
        assert not base.get(project, client=CLIENT).stand_ins  # type: ignore[arg-type]
    else:
        with pytest.raises(OfflineError, match="PARITY_OFFLINE=never"):
            base.get(project, client=CLIENT)  # type: ignore[arg-type]
    assert asked.asked == 1


def test_without_an_engine_the_stand_in_is_used(project: Settings, made: list[tuple[str, ...]]) -> None:
    assert base.get(project, client=None).stand_ins == (offline.BASE,)


def test_a_comment_in_packages_txt_changes_nothing_and_a_package_does(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(monkeypatch, answers=False)
    packages = project.root / "docker" / "packages.txt"
    first = base.get(project, client=CLIENT)  # type: ignore[arg-type]
    packages.write_text("bash\n\nca-certificates # still\n")
    assert base.get(project, client=CLIENT) == first  # type: ignore[arg-type]
    packages.write_text("bash\nca-certificates\ngit\n")
    assert base.get(project, client=CLIENT) != first  # type: ignore[arg-type]
    assert made == [("bash", "ca-certificates"), ("bash", "ca-certificates", "git")]


@pytest.mark.parametrize("damage", ["short", "gone", "note"])
def test_a_damaged_cache_is_made_anew(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    registry(monkeypatch, answers=False)
    first = base.get(project, client=CLIENT)  # type: ignore[arg-type]
    path = first.layers[0].path
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        path.unlink()
    else:
        (path.parent / "base.json").write_text('{"layers":')
    assert base.get(project, client=CLIENT) == first  # type: ignore[arg-type]
    assert len(made) == 2


def test_what_a_killed_run_left_half_done_is_neither_used_nor_kept(
    project: Settings, made: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(monkeypatch, answers=False)
    folder = base.get(project, client=CLIENT).layers[0].path.parent  # type: ignore[arg-type]
    half = folder.with_name(f".{folder.name}.abc.part")
    folder.rename(half)
    assert base.get(project, client=CLIENT).layers[0].path.parent == folder  # type: ignore[arg-type]
    assert len(made) == 2
    assert not half.exists()


def test_a_dockerfile_with_two_stages_is_refused(project: Settings, made: list[tuple[str, ...]]) -> None:
    (project.root / "docker" / "Dockerfile").write_text("FROM a AS b\nFROM c\n")
    with pytest.raises(ImageError, match="2 FROM lines"):
        base.reference(project)


def test_a_project_without_a_docker_folder_uses_the_toolkits(project: Settings, tmp_path: Path) -> None:
    bare = settings.Settings(root=tmp_path / "bare")
    toolkits = settings.load(Path(__file__))
    assert base.reference(bare) == base.reference(toolkits) != base.reference(project)
    assert base.packages(bare) == base.packages(toolkits) != base.packages(project)


def test_half_a_docker_folder_is_told_so_and_not_replaced(project: Settings) -> None:
    (project.root / "docker" / "packages.txt").unlink()
    with pytest.raises(ImageError, match=rf"no {project.root}/docker/packages\.txt"):
        base.get(project, client=None)


def test_no_docker_folder_anywhere_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.project, "TOOLKIT", tmp_path / "toolkit")
    with pytest.raises(ImageError, match=rf"no {tmp_path}/bare/docker/Dockerfile"):
        base.get(settings.Settings(root=tmp_path / "bare"), client=None)


def test_the_stand_in_is_for_this_machines_platform_only(tmp_path: Path) -> None:
    other = "linux-aarch64" if stand_in.MACHINES.get(os.uname().machine) == "linux-64" else "linux-64"
    with pytest.raises(OfflineError, match="own platform"):
        stand_in.make(["bash"], tmp_path / "base.tar", platform=other)


# --- asking the registry


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"Descriptor": {"digest": "sha256:" + 64 * "0"}, "Platforms": []}, True),
        (fake_engine.refusing(500, "dial tcp: lookup registry.invalid: no such host"), False),
        (fake_engine.refusing(403, "denied"), False),
    ],
)
def test_the_engine_is_asked_whether_it_reaches_the_registry(
    monkeypatch: pytest.MonkeyPatch, answer: object, expected: bool
) -> None:
    with (
        fake_engine.short_folder() as folder,
        fake_engine.engine(folder / "e.sock", {"/distribution/some:base/json": answer}),
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/e.sock")
        assert upstream.answers(engine.connect(), "some:base") is expected


def test_a_registry_that_swallows_questions_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "PROBE_SECONDS", 0.3)
    with (
        fake_engine.short_folder() as folder,
        fake_engine.engine(folder / "e.sock", {"/distribution/some:base/json": fake_engine.silent}),
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/e.sock")
        client = engine.connect()
        started = time.monotonic()
        assert not upstream.answers(client, "some:base")
        assert time.monotonic() - started < 1


def test_podman_which_has_no_such_question_has_the_registry_asked_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(offline, "answers", lambda url: asked.append(url) or True)
    with fake_engine.short_folder() as folder, fake_engine.engine(folder / "e.sock"):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/e.sock")
        assert upstream.answers(engine.connect(), "registry.invalid/some:base")
    assert asked == ["https://registry.invalid/v2/"]


def test_a_name_server_that_never_answers_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    started = time.monotonic()
    assert not offline.answers("https://swallowed.invalid")
    assert time.monotonic() - started < 2
