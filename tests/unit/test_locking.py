import base64
import contextlib
import functools
import hashlib
import http.server
import io
import logging
import threading
import types
import zipfile

import pytest
from tiny_channel import TinyChannel

from tools import offline
from tools.environment import condalock, index, locking
from tools.environment.lock import Lock, stale
from tools.environment.spec import EnvironmentSpec
from tools.errors import LockError, OfflineError, SolveError, SpecError
from tools.settings import Settings


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "project" / "environments").mkdir(parents=True)
    return Settings(root=tmp_path / "project")


@pytest.fixture
def channel(tmp_path):
    channel = TinyChannel(tmp_path / "channel")
    channel.add("python", "3.11.5", depends=["openssl", "__glibc >=2.17"], subdir="linux-64")
    channel.add("openssl", "3.1", subdir="linux-64")
    channel.add("pip", "24.0", depends=["python"])
    channel.add("tqdm", "4.0", depends=["python"])
    channel.add("numpy", "2.0", depends=["python", "openssl"], subdir="linux-64")
    return channel


def newer(channel):
    channel.add("openssl", "3.2", subdir="linux-64")
    channel.add("tqdm", "5.0", depends=["python"])
    channel.add("numpy", "2.1", depends=["python", "openssl >=3.2"], subdir="linux-64")


@pytest.fixture
def spec(settings, channel):
    def write(dependencies="python=3.11, tqdm, numpy", channels=None):
        path = settings.root / "environments" / "x.yml"
        path.write_text(f"channels: [{channels or channel.url}]\ndependencies: [{dependencies}]\n")
        return EnvironmentSpec.load(path)

    return write


def versions(path):
    return {package.name: package.version for package in Lock.read(path).packages}


FIRST = {"numpy": "2.0", "openssl": "3.1", "python": "3.11.5", "tqdm": "4.0"}


def test_a_lock_names_every_package_by_address_and_hash(settings, channel, spec):
    path = locking.lock(settings, spec())
    assert path == settings.root / "environments" / "x.conda-lock.yml"
    lock = Lock.read(path)
    assert versions(path) == FIRST
    tqdm = lock.packages[-1]
    assert tqdm.url == f"{channel.url}/noarch/tqdm-4.0-0.conda"
    assert tqdm.sha256 == hashlib.sha256(b"tqdm-4.0-0").hexdigest()
    assert lock.stand_ins == ()
    assert stale(path, spec(), ("linux-64",)) is None


def test_the_same_input_gives_the_same_bytes_and_leaves_nothing_else_behind(settings, spec):
    first = locking.lock(settings, spec()).read_bytes()
    assert locking.lock(settings, spec()).read_bytes() == first
    assert b"/project" not in first
    assert sorted(path.name for path in settings.state.iterdir()) == ["locking.lock"]


def test_several_platforms_stand_in_one_lock(settings, channel, spec):
    channel.add("zlib", "1", subdir="linux-64")
    channel.add("zlib", "1", subdir="linux-aarch64")
    lock = Lock.read(locking.lock(settings, spec("zlib"), platforms=("linux-64", "linux-aarch64")))
    assert [package.url.split("/")[-2] for package in lock.packages] == ["linux-64", "linux-aarch64"]


def test_a_selector_holds_for_its_platform_alone(settings, channel, spec):
    channel.add("zlib", "1")
    path = spec().path
    path.write_text(f"channels: [{channel.url}]\ndependencies:\n  - zlib\n  - openssl  # [linux64]\n")
    lock = Lock.read(locking.lock(settings, EnvironmentSpec.load(path), platforms=("linux-64", "linux-aarch64")))
    assert [package.name for package in lock.for_platform("linux-64")] == ["openssl", "zlib"]
    assert [package.name for package in lock.for_platform("linux-aarch64")] == ["zlib"]


def test_cuda_builds_are_only_for_specs_that_ask_for_cuda(settings, channel, spec):
    channel.add("torch", "2.0", depends=["__cuda >=12"], build="cuda")
    channel.add("torch", "1.0", build="cpu")
    assert versions(locking.lock(settings, spec("torch"))) == {"torch": "1.0"}
    assert versions(locking.lock(settings, spec("'torch=*=*cuda*'"))) == {"torch": "2.0"}


def test_the_cuda_version_of_the_spec_is_the_newest_that_is_accepted(settings, channel, spec):
    for version in ("11.8", "12.4"):
        channel.add("cuda-version", version)
        channel.add("torch", version, depends=[f"__cuda >={version}", f"cuda-version {version}"])
    assert versions(locking.lock(settings, spec("torch, cuda-version=11.8")))["torch"] == "11.8"


class TestUpdate:
    def test_moves_only_the_package_that_is_named(self, settings, channel, spec):
        locking.lock(settings, spec())
        newer(channel)
        assert versions(locking.lock(settings, spec(), update=["TQDM"])) == FIRST | {"tqdm": "5.0"}

    def test_moves_what_it_forces_along(self, settings, channel, spec):
        locking.lock(settings, spec())
        newer(channel)
        moved = FIRST | {"numpy": "2.1", "openssl": "3.2"}
        assert versions(locking.lock(settings, spec(), update=["numpy"])) == moved

    def test_moves_a_package_that_the_spec_does_not_name(self, settings, channel, spec):
        locking.lock(settings, spec())
        newer(channel)
        assert versions(locking.lock(settings, spec(), update=["openssl"])) == FIRST | {"openssl": "3.2"}

    def test_goes_no_further_than_the_spec(self, settings, channel, spec):
        locking.lock(settings, spec("python, tqdm<5, numpy"))
        newer(channel)
        assert versions(locking.lock(settings, spec("python, tqdm<5, numpy"), update=["tqdm"])) == FIRST

    def test_a_full_lock_moves_everything(self, settings, channel, spec):
        locking.lock(settings, spec())
        newer(channel)
        assert versions(locking.lock(settings, spec())) == FIRST | {"tqdm": "5.0", "numpy": "2.1", "openssl": "3.2"}

    def test_an_unknown_package_is_refused_with_the_nearest(self, settings, spec):
        before = locking.lock(settings, spec()).read_bytes()
        with pytest.raises(LockError, match="no package nunpy; did you mean numpy"):
            locking.lock(settings, spec(), update=["nunpy"])
        assert locking.lock_path(settings, spec()).read_bytes() == before

    def test_needs_a_lock_of_the_same_channels(self, settings, spec, tmp_path):
        with pytest.raises(LockError, match="no lock to update"):
            locking.lock(settings, spec(), update=["numpy"])
        locking.lock(settings, spec())
        other = TinyChannel(tmp_path / "other")
        with pytest.raises(LockError, match="other channels"):
            locking.lock(settings, spec(channels=other.url), update=["numpy"])


class TestFailure:
    def test_an_unsolvable_spec_is_told_by_the_solver_and_touches_nothing(self, settings, spec):
        before = locking.lock(settings, spec()).read_bytes()
        with pytest.raises(SolveError) as caught:
            locking.lock(settings, spec("python=3.11, tqdm>=9"))
        assert "No candidates were found for tqdm >=9" in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert locking.lock_path(settings, spec()).read_bytes() == before
        assert sorted(path.name for path in settings.state.iterdir()) == ["locking.lock"]

    def test_an_unreadable_channel_is_no_unsolvable_spec(self, settings, spec, tmp_path):
        with pytest.raises(LockError, match="the channel cannot be read"):
            locking.lock(settings, spec(channels=(tmp_path / "none").as_uri()))

    def test_a_match_spec_that_is_none_is_named(self, settings, spec):
        with pytest.raises(SpecError, match="numpy>>2"):
            locking.lock(settings, spec("'numpy>>2'"))


class TestResolve:
    def test_locks_where_there_is_no_lock_and_says_so_once(self, settings, spec, caplog):
        caplog.set_level(logging.INFO, "tools")
        assert locking.resolve(settings, spec()).path == locking.lock_path(settings, spec())
        assert [record.message for record in caplog.records] == [f"Locking {spec().path} (no lock)"]

    def test_takes_the_lock_there_is_without_solving(self, settings, channel, spec, monkeypatch):
        locking.lock(settings, spec())
        newer(channel)
        monkeypatch.setattr(condalock, "lock", None)
        lock = locking.resolve(settings, spec("numpy,   tqdm, python=3.11"))
        assert {package.name: package.version for package in lock.packages} == FIRST

    def test_locks_again_where_the_spec_changed(self, settings, spec):
        locking.lock(settings, spec())
        assert "tqdm" not in [package.name for package in locking.resolve(settings, spec("python, numpy")).packages]


class TestStandIn:
    """Against a channel whose host does not exist; the stand-in channel is the tiny one."""

    FAR = "http://127.0.0.1:9/far"  # the discard port: nothing listens

    @pytest.fixture(autouse=True)
    def made(self, channel, tmp_path, monkeypatch):
        lookup = tmp_path / "lookup.yaml"
        lookup.write_text("{}")
        calls = []

        def make(spec, directory, *, pins=None, platform="linux-64"):
            calls.append((spec.name, directory, dict(pins or {}), platform))
            return types.SimpleNamespace(path=channel.folder, url=channel.url, lookup=lookup)

        monkeypatch.setattr("tools.offline.channel.make", make)
        return calls

    def test_replaces_a_channel_that_does_not_answer_and_says_so_in_the_lock(self, settings, spec, made):
        far = spec(channels=self.FAR)
        lock = locking.resolve(settings, far)
        assert lock.path == settings.state / "offline" / "x.conda-lock.yml"
        assert lock.stand_ins == (offline.CHANNEL,)
        assert {package.name: package.version for package in lock.packages} == FIRST
        assert made == [("x", settings.state / "offline" / "channel", {}, "linux-64")]
        assert not locking.lock_path(settings, far).exists()
        assert locking.resolve(settings, far) == lock
        assert len(made) == 1

    def test_holds_what_an_update_does_not_name(self, settings, channel, spec, made):
        locking.lock(settings, spec(channels=self.FAR))
        newer(channel)
        path = locking.lock(settings, spec(channels=self.FAR), update=["tqdm"])
        assert versions(path) == FIRST | {"tqdm": "5.0"}
        assert made[-1][2] == {"numpy": "2.0", "openssl": "3.1", "python": "3.11.5"}

    def test_gives_packages_of_a_named_channel_too(self, settings, spec):
        path = locking.lock(settings, spec("python, far::numpy", channels=self.FAR))
        assert versions(path)["numpy"] == "2.0"

    def test_is_not_used_where_a_lock_of_the_real_channel_answers(self, settings, channel, spec, monkeypatch, made):
        far = spec(channels=self.FAR)
        real = locking.lock_path(settings, far)
        real.write_bytes(locking.lock(settings, far).read_bytes().replace(b"stand_ins: channel", b""))
        made.clear()
        monkeypatch.setattr(offline, "answers", None)
        assert locking.resolve(settings, far).path == real
        monkeypatch.setenv(offline.VARIABLE, "always")
        assert locking.resolve(settings, far).stand_ins == (offline.CHANNEL,)

    def test_can_be_refused(self, settings, spec, monkeypatch):
        monkeypatch.setenv(offline.VARIABLE, "never")
        with pytest.raises(OfflineError, match="never"):
            locking.resolve(settings, spec(channels=self.FAR))

    def test_never_replaces_a_channel_of_files(self, settings, spec, monkeypatch):
        monkeypatch.setenv(offline.VARIABLE, "always")
        assert locking.resolve(settings, spec()).stand_ins == ()


class _Index(http.server.SimpleHTTPRequestHandler):
    """A simple index behind a password."""

    expected = "Basic " + base64.b64encode(b"me:p@ss/word").decode()

    def send_head(self):
        if self.headers.get("Authorization") != self.expected:
            self.send_error(401)
            return None
        return super().send_head()

    def log_message(self, *_):
        pass


def wheel(folder, name, version, requires=()):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {required}\n" for required in requires)
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    file = f"{name}-{version}-py3-none-any.whl"
    (folder / file).write_bytes(content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    page = folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    with page.open("a") as listing:
        listing.write(f'<a href="../../{file}#sha256={digest}">{file}</a><br>\n')
    return digest


class TestPip:
    @pytest.fixture
    def files(self, tmp_path):
        folder = tmp_path / "index"
        folder.mkdir()
        wheel(folder, "left", "1.0", ["right"])
        wheel(folder, "right", "1.0")
        return folder

    @pytest.fixture(autouse=True)
    def server(self, files, monkeypatch):
        handler = functools.partial(_Index, directory=str(files))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            host = f"127.0.0.1:{server.server_address[1]}"
            monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss%2Fword@{host}/simple")
            monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
            with contextlib.ExitStack() as stack:
                stack.callback(server.shutdown)
                yield f"http://{host}"

    @pytest.fixture
    def lock(self, settings, channel, spec, tmp_path, monkeypatch):
        """Locks with the stand-in's table of names, since conda-lock's own is on the network."""
        lookup = tmp_path / "lookup.yaml"
        lookup.write_text("{}")
        made = types.SimpleNamespace(path=channel.folder, url=channel.url, lookup=lookup)
        monkeypatch.setattr("tools.offline.channel.make", lambda *_, **__: made)

        def lock(pip="[left]", **options):
            asked = spec(f"python, numpy, pip: {pip}", channels=TestStandIn.FAR)
            return locking.lock(settings, asked, **options)

        return lock

    def test_packages_come_from_pips_own_index_and_the_lock_holds_no_password(self, lock, server):
        path = lock()
        assert versions(path) == {"left": "1.0", "right": "1.0", "numpy": "2.0", "openssl": "3.1"} | {
            "pip": "24.0",
            "python": "3.11.5",
        }
        left = next(package for package in Lock.read(path).packages if package.name == "left")
        assert left.url == f"{server}/left-1.0-py3-none-any.whl"
        assert (left.manager, left.dependencies) == ("pip", ("right",))
        text = path.read_text()
        assert [word for word in ("p@ss", "p%40ss", "PARITY_INDEX") if word in text] == []

    def test_an_update_moves_one_pip_package_and_no_conda_package(self, lock, files, channel):
        before = versions(lock())
        newer(channel)
        wheel(files, "left", "2.0", ["right"])
        wheel(files, "right", "2.0")
        assert versions(lock(update=["left"])) == before | {"left": "2.0"}
        assert versions(lock(update=["numpy"])) == before | {"left": "2.0", "numpy": "2.1", "openssl": "3.2"}

    def test_no_solution_is_told_by_the_pip_solver(self, lock):
        with pytest.raises(SolveError, match=r"pip: .*\n.*left .*>=9") as caught:
            lock("['left>=9']")
        assert "Traceback" not in str(caught.value)

    def test_a_hash_that_the_requirements_do_not_allow_is_refused(self, lock, files):
        wheel(files, "left", "2.0")
        with pytest.raises(LockError, match=r"left-2\.0-py3-none-any\.whl has the sha256"):
            lock(f"['left --hash=sha256:{'0' * 64}']")
        digest = wheel(files, "left", "3.0")
        assert versions(lock(f"['left --hash=sha256:{digest}']"))["left"] == "3.0"


def test_an_index_of_files_is_refused(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "file:///somewhere/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(LockError, match="which conda-lock cannot read"):
        index.configured()


def test_further_indexes_of_pip_are_asked_too(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://one.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example/simple file:///three/simple")
    found = index.configured()
    assert found is not None
    assert found.urls == ("https://one.example/simple", "https://two.example/simple")
