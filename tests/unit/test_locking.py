import functools
import hashlib
import http.server
import logging
import threading
import types

import pytest
import yaml
from tiny_channel import PasswordHandler, TinyChannel, add_sdist, add_wheel

from tools import offline
from tools.environment import condalock, index, locking
from tools.environment.lock import Lock, stale
from tools.environment.spec import EnvironmentSpec
from tools.errors import LockError, OfflineError, SolveError, SpecError
from tools.settings import Settings

OLD = {"numpy": "2.0", "openssl": "3.1", "python": "3.11.5", "tqdm": "4.0"}
NEW = {"numpy": "2.1", "openssl": "3.2", "python": "3.11.5", "tqdm": "5.0"}
FAR = "http://127.0.0.1:9/far"  # the discard port: nothing listens


def project(folder):
    (folder / "environments").mkdir(parents=True)
    return Settings(root=folder)


def environment(settings, channel_url, dependencies="python=3.11, tqdm, numpy"):
    path = settings.root / "environments" / "x.yml"
    path.write_text(f"channels: [{channel_url}]\ndependencies: [{dependencies}]\n")
    return EnvironmentSpec.load(path)


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """A channel after the day of `old_lock`: with a newer numpy, openssl and tqdm."""
    channel = TinyChannel(tmp_path_factory.mktemp("channel") / "c")
    channel.add("python", "3.11.5", depends=["openssl", "__glibc >=2.17"], subdir="linux-64")
    channel.add("openssl", "3.1", subdir="linux-64")
    channel.add("pip", "24.0", depends=["python"])
    channel.add("tqdm", "4.0", depends=["python"])
    channel.add("numpy", "2.0", depends=["python", "openssl"], subdir="linux-64")
    return channel


@pytest.fixture(scope="module")
def old_lock(channel, tmp_path_factory):
    """The bytes of a lock of the old packages."""
    settings = project(tmp_path_factory.mktemp("old"))
    content = locking.lock(settings, environment(settings, channel.url)).read_bytes()
    channel.add("openssl", "3.2", subdir="linux-64")
    channel.add("tqdm", "5.0", depends=["python"])
    channel.add("numpy", "2.1", depends=["python", "openssl >=3.2"], subdir="linux-64")
    return content


@pytest.fixture
def settings(old_lock, tmp_path):
    return project(tmp_path / "project")


@pytest.fixture
def spec(settings, channel):
    return lambda *dependencies, url=channel.url: environment(settings, url, *dependencies)


@pytest.fixture
def locked(settings, old_lock):
    """Puts the old lock where that of `spec` lies, as if it had been made from it."""

    def locked(spec):
        table = yaml.safe_load(old_lock)
        table["metadata"]["custom_metadata"]["spec"] = spec.content
        path = locking.lock_path(settings, spec)
        path.write_text(yaml.safe_dump(table))
        return path

    return locked


@pytest.fixture
def stand_in(channel, tmp_path, monkeypatch):
    """The tiny channel stands in; gives the calls that asked for it."""
    lookup = tmp_path / "lookup.yaml"
    lookup.write_text("{}")
    calls = []

    def make(spec, directory, *, pins=None, platform="linux-64"):
        calls.append((spec.name, directory, dict(pins or {}), platform))
        return types.SimpleNamespace(path=channel.folder, url=channel.url, lookup=lookup)

    monkeypatch.setattr("tools.offline.channel.make", make)
    return calls


def versions(path):
    return {package.name: package.version for package in Lock.read(path).packages}


class TestLock:
    def test_names_the_newest_packages_by_address_and_hash(self, settings, channel, spec):
        path = locking.lock(settings, spec())
        assert path == settings.root / "environments" / "x.conda-lock.yml"
        assert versions(path) == NEW
        lock = Lock.read(path)
        tqdm = lock.packages[-1]
        assert tqdm.url == f"{channel.url}/noarch/tqdm-5.0-0.conda"
        assert tqdm.sha256 == hashlib.sha256(b"tqdm-5.0-0").hexdigest()
        assert lock.stand_ins == ()
        assert stale(path, spec(), ("linux-64",)) is None

    def test_has_the_same_bytes_for_the_same_input_and_leaves_nothing_else(self, settings, spec):
        first = locking.lock(settings, spec()).read_bytes()
        assert locking.lock(settings, spec()).read_bytes() == first
        assert b"/project" not in first
        assert sorted(path.name for path in settings.state.iterdir()) == ["locking.lock"]

    def test_holds_several_platforms_each_with_the_lines_selected_for_it(self, settings, channel, spec):
        channel.add("zlib", "1")
        channel.add("mkl", "1")
        path = spec().path
        path.write_text(f"channels: [{channel.url}]\ndependencies:\n  - zlib\n  - mkl  # [linux64]\n")
        lock = Lock.read(locking.lock(settings, EnvironmentSpec.load(path), platforms=("linux-64", "linux-aarch64")))
        assert [package.name for package in lock.for_platform("linux-64")] == ["mkl", "zlib"]
        assert [package.name for package in lock.for_platform("linux-aarch64")] == ["zlib"]

    def test_has_cuda_builds_only_for_a_spec_that_asks_and_of_its_version(self, settings, channel, spec):
        channel.add("torch", "1.0", build="cpu")
        channel.add("cuda-version", "11.8")
        for version in ("11.2", "11.8", "12.4"):
            channel.add("torch", f"2.{version}", depends=[f"__cuda >={version}"])
        assert versions(locking.lock(settings, spec("torch"))) == {"torch": "1.0"}
        assert versions(locking.lock(settings, spec("torch, cuda-version=11.8")))["torch"] == "2.11.8"


class TestUpdate:
    def test_moves_only_the_package_that_is_named(self, settings, spec, locked):
        locked(spec())
        assert versions(locking.lock(settings, spec(), update=["TQDM"])) == OLD | {"tqdm": "5.0"}

    def test_an_unknown_package_is_refused_with_the_nearest(self, settings, spec, locked):
        before = locked(spec()).read_bytes()
        with pytest.raises(LockError, match=r"no package nunpy; did you mean numpy\?"):
            locking.lock(settings, spec(), update=["nunpy"])
        assert locking.lock_path(settings, spec()).read_bytes() == before

    def test_needs_a_lock_of_the_same_channels(self, settings, spec, locked, tmp_path):
        with pytest.raises(LockError, match="no lock to update"):
            locking.lock(settings, spec(), update=["numpy"])
        locked(spec())
        with pytest.raises(LockError, match="other channels"):
            locking.lock(settings, spec(url=(tmp_path / "other").as_uri()), update=["numpy"])


class TestFailure:
    def test_an_unsolvable_spec_is_told_by_the_solver_and_touches_nothing(self, settings, spec, locked):
        before = locked(spec()).read_bytes()
        with pytest.raises(SolveError) as caught:
            locking.lock(settings, spec("python=3.11, tqdm>=9"))
        assert "No candidates were found for tqdm >=9" in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert locking.lock_path(settings, spec()).read_bytes() == before
        assert sorted(path.name for path in settings.state.iterdir()) == ["locking.lock"]

    def test_an_unreadable_channel_is_no_unsolvable_spec(self, settings, spec, tmp_path):
        with pytest.raises(LockError, match="its channels cannot be read"):
            locking.lock(settings, spec(url=(tmp_path / "none").as_uri()))

    def test_a_match_spec_that_is_none_is_named(self, settings, spec):
        with pytest.raises(SpecError, match="numpy>>2"):
            locking.lock(settings, spec("'numpy>>2'"))


class TestResolve:
    def test_takes_the_lock_there_is_without_solving(self, settings, spec, locked, monkeypatch):
        path = locked(spec())
        monkeypatch.setattr(condalock, "lock", None)
        assert locking.resolve(settings, spec("numpy,   tqdm, python=3.11")) == Lock.read(path)

    def test_locks_again_where_the_spec_changed_and_says_why_in_a_line(self, settings, spec, locked, caplog):
        caplog.set_level(logging.INFO, "tools")
        path = locked(spec())
        lock = locking.resolve(settings, spec("python, numpy"))
        assert lock.path == path
        assert "tqdm" not in [package.name for package in lock.packages]
        (record,) = caplog.records
        assert record.message.startswith(f"Locking {spec().path} (")
        assert "removed: tqdm" in record.message


class TestStandIn:
    def test_replaces_a_channel_that_does_not_answer_and_says_so_in_the_lock(self, settings, spec, stand_in):
        far = spec("python=3.11, tqdm, far::numpy", url=FAR)
        lock = locking.resolve(settings, far)
        assert lock.path == settings.state / "offline" / "x.conda-lock.yml"
        assert lock.stand_ins == (offline.CHANNEL,)
        assert versions(lock.path) == NEW
        assert stand_in == [("x", settings.state / "offline" / "channel", {}, "linux-64")]
        assert not locking.lock_path(settings, far).exists()
        assert locking.resolve(settings, far) == lock
        assert len(stand_in) == 1

    def test_holds_what_an_update_does_not_name(self, settings, spec, locked, stand_in):
        far = spec("python=3.11, tqdm, numpy", url=FAR)
        path = locking.lock_path(settings, far, stand_in=True)
        path.parent.mkdir(parents=True)
        locked(far).rename(path)
        assert versions(locking.lock(settings, far, update=["tqdm"])) == OLD | {"tqdm": "5.0"}
        assert stand_in[-1][2] == {"numpy": "2.0", "openssl": "3.1", "python": "3.11.5"}

    def test_is_not_used_where_a_lock_of_the_real_channel_answers(self, settings, spec, locked, stand_in, monkeypatch):
        path = locked(spec(url=FAR))
        monkeypatch.setattr(offline, "answers", None)
        assert locking.resolve(settings, spec(url=FAR)).path == path
        monkeypatch.setenv(offline.VARIABLE, "always")
        assert locking.resolve(settings, spec(url=FAR)).stand_ins == (offline.CHANNEL,)

    def test_can_be_refused(self, settings, spec, stand_in, monkeypatch):
        monkeypatch.setenv(offline.VARIABLE, "never")
        with pytest.raises(OfflineError, match="never"):
            locking.resolve(settings, spec(url=FAR))
        assert stand_in == []

    def test_never_replaces_a_channel_of_files(self, settings, spec, locked, monkeypatch):
        locked(spec())
        monkeypatch.setenv(offline.VARIABLE, "always")
        assert locking.resolve(settings, spec()).stand_ins == ()


class TestPip:
    """Against a simple index on the loopback, behind a password."""

    @pytest.fixture
    def files(self, tmp_path):
        folder = tmp_path / "index"
        add_wheel(folder, "left", "1.0", requires=["right"])
        add_wheel(folder, "right", "1.0")
        return folder

    @pytest.fixture
    def server(self, files, tmp_path, monkeypatch):
        handler = functools.partial(PasswordHandler, directory=str(files))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            host = f"127.0.0.1:{server.server_address[1]}"
            monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss%2Fword@{host}/simple")
            monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
            yield f"http://{host}"
            server.shutdown()

    @pytest.fixture
    def lock(self, settings, channel, spec, stand_in, server):
        """Locks with the stand-in's table of names, since conda-lock's own is on the network."""
        channel.add("scipy", "1.0", depends=["python"])
        return lambda pip="[left]", **options: locking.lock(
            settings, spec(f"python, scipy, pip: {pip}", url=FAR), **options
        )

    def test_packages_come_from_pips_own_index_and_the_lock_holds_no_password(self, lock, server):
        lock_file = lock()
        packages = {package.name: package for package in Lock.read(lock_file).packages if package.manager == "pip"}
        assert {name: package.version for name, package in packages.items()} == {"left": "1.0", "right": "1.0"}
        assert packages["left"].url == f"{server}/left-1.0-py3-none-any.whl"
        assert packages["left"].dependencies == ("right",)
        assert [word for word in ("p@ss", "p%40ss", "PARITY_INDEX") if word in lock_file.read_text()] == []

    def test_an_update_moves_one_package_of_pips_and_none_of_condas(self, lock, files, channel):
        before = versions(lock())
        add_wheel(files, "left", "2.0", requires=["right"])
        add_wheel(files, "right", "2.0")
        channel.add("scipy", "2.0", depends=["python"])
        assert versions(lock(update=["left"])) == before | {"left": "2.0"}
        assert versions(lock(update=["scipy"])) == before | {"left": "2.0", "scipy": "2.0"}

    def test_no_solution_is_told_by_the_pip_solver(self, lock):
        with pytest.raises(SolveError, match=r"pip: cannot be solved:\n.*left") as caught:
            lock("['left>=9']")
        assert "Traceback" not in str(caught.value)

    def test_a_hash_that_the_requirements_do_not_allow_is_refused(self, lock, files):
        digest = add_wheel(files, "left", "2.0")
        assert versions(lock(f"['left --hash=sha256:{digest}']"))["left"] == "2.0"
        with pytest.raises(LockError, match=r"left-2\.0-py3-none-any\.whl has the sha256"):
            lock(f"['left --hash=sha256:{'0' * 64}']")

    def test_a_package_without_a_wheel_is_refused(self, lock, files):
        add_sdist(files, "middle", "1.0")
        with pytest.raises(LockError, match=r"middle 1\.0 has no wheel for this platform: middle-1\.0\.tar\.gz"):
            lock("[middle]")

    def test_further_indexes_are_asked_too_and_those_of_files_are_left_out(self, monkeypatch):
        monkeypatch.setenv("PIP_INDEX_URL", "https://one.example/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://two.example/simple file:///three/simple")
        found = index.configured()
        assert found is not None
        assert found.urls == ("https://one.example/simple", "https://two.example/simple")

    def test_an_index_of_files_alone_is_refused(self, monkeypatch):
        monkeypatch.setenv("PIP_INDEX_URL", "file:///somewhere/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        with pytest.raises(LockError, match="which conda-lock cannot read"):
            index.configured()
