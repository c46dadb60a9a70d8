import hashlib
import random

import pytest
import yaml

from tools import offline
from tools.environment.lock import Lock, stale
from tools.environment.spec import EnvironmentSpec
from tools.errors import LockError

SPEC = "channels: [conda-forge]\ndependencies: [python=3.11, 'numpy>=1', pip, pip: [tqdm]]\n"


def conda(name="numpy", version="2.0", build="py311_0", **changes):
    return {
        "name": name,
        "version": version,
        "manager": "conda",
        "platform": "linux-64",
        "dependencies": {"python": ">=3.11", "libblas": ""},
        "url": f"https://host.example/channel/linux-64/{name}-{version}-{build}.conda",
        "hash": {"md5": "0" * 32, "sha256": "a" * 64},
        "category": "main",
        "optional": False,
    } | changes


def pip(name="tqdm", version="4.1", **changes):
    url = f"https://host.example/files/{name}-{version}-py3-none-any.whl"
    return conda(name, version) | {"manager": "pip", "url": url, "hash": {"sha256": "b" * 64}} | changes


def spec(folder, text=SPEC):
    path = folder / "x.yml"
    path.write_text(text)
    return EnvironmentSpec.load(path)


@pytest.fixture
def write(tmp_path):
    def write(packages, **changes):
        metadata = {"platforms": ["linux-64"], "custom_metadata": {"spec": spec(tmp_path).content}}
        table = {"version": 1, "metadata": metadata, "package": packages} | changes
        path = tmp_path / "x.conda-lock.yml"
        path.write_text("# a header\n" + yaml.safe_dump(table))
        return path

    return write


def test_a_package_is_read_with_its_file_and_hash(write):
    path = write([pip(), conda()])
    numpy, tqdm = Lock.read(path).for_platform("linux-64")
    assert (numpy.name, numpy.version, numpy.build, numpy.manager) == ("numpy", "2.0", "py311_0", "conda")
    assert numpy.filename == "numpy-2.0-py311_0.conda"
    assert (numpy.sha256, numpy.md5, numpy.dependencies) == ("a" * 64, "0" * 32, ("libblas", "python"))
    assert (tqdm.manager, tqdm.build, tqdm.md5) == ("pip", "", None)


def test_the_lock_is_known_by_the_sha256_of_its_file(write):
    path = write([conda()])
    assert Lock.read(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_packages_come_by_manager_and_name_whatever_their_order(write):
    packages = [pip("a"), pip("z"), conda("b"), conda("y"), conda("m")]
    random.Random(1).shuffle(packages)
    lock = Lock.read(write(packages))
    assert [package.name for package in lock.for_platform("linux-64")] == ["b", "m", "y", "a", "z"]


def test_a_file_name_is_percent_decoded(write):
    url = "https://host.example/c/linux-64/numpy-1%212.0%2Bcpu-py311_0.conda"
    (package,) = Lock.read(write([conda(version="1!2.0+cpu", url=url)])).packages
    assert package.filename == "numpy-1!2.0+cpu-py311_0.conda"


def test_a_package_of_several_categories_is_one_package(write):
    assert len(Lock.read(write([conda(), conda(category="dev")])).packages) == 1


def test_only_the_platforms_of_the_lock_have_packages(write):
    with pytest.raises(LockError, match="platform linux-aarch64 is not in it"):
        Lock.read(write([conda()])).for_platform("linux-aarch64")


def test_stand_ins_are_read_back(write, tmp_path):
    metadata = {"platforms": ["linux-64"], "custom_metadata": {"stand_ins": "channel"}}
    assert Lock.read(write([conda()], metadata=metadata)).stand_ins == (offline.CHANNEL,)
    assert Lock.read(write([conda()])).stand_ins == ()
    metadata["custom_metadata"]["stand_ins"] = "weather"
    with pytest.raises(LockError, match="unknown stand-in weather"):
        Lock.read(write([conda()], metadata=metadata))


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (conda(hash={"md5": "0" * 32}), "package numpy: no sha256"),
        (conda(hash={"md5": "0" * 32, "sha256": "abc"}), "package numpy: no sha256"),
        (conda(hash=None), "package numpy"),
        (conda(name="scipy") | {"url": conda()["url"]}, "package scipy is the file numpy-2.0-py311_0.conda"),
        (conda() | {"version": "3.0"}, "package numpy is the file numpy-2.0"),
        (conda(url="https://host.example/numpy-2.0-py311_0.zip"), "is the file numpy-2.0-py311_0.zip"),
        (conda(manager="npm"), "manager npm"),
        ({"name": "numpy"}, "package numpy"),
        ("numpy", "package None"),
    ],
)
def test_a_package_that_is_not_what_it_says_is_refused(write, package, told):
    with pytest.raises(LockError, match=told):
        Lock.read(write([pip(), package]))


def test_another_format_is_refused(write, tmp_path):
    with pytest.raises(LockError, match="version 2 of the format"):
        Lock.read(write([], version=2))
    with pytest.raises(LockError, match="no metadata or no packages"):
        Lock.read(write(None))
    path = tmp_path / "broken.conda-lock.yml"
    for text in ("", "[", "- a", "version: [\n"):
        path.write_text(text)
        with pytest.raises(LockError, match=r"broken\.conda-lock\.yml"):
            Lock.read(path)
    with pytest.raises(LockError, match="cannot be read"):
        Lock.read(tmp_path / "none.conda-lock.yml")


class TestStale:
    def test_a_lock_answers_the_spec_it_was_made_from(self, write, tmp_path):
        assert stale(write([conda()]), spec(tmp_path), ("linux-64",)) is None

    def test_comments_order_and_spacing_make_no_lock_stale(self, write, tmp_path):
        path = write([conda()])
        other = "# new\ndependencies: [pip, 'numpy >= 1', python=3.11, pip: [TQDM]]\nchannels: [conda-forge] # same\n"
        assert stale(path, spec(tmp_path, other)) is None

    @pytest.mark.parametrize(
        ("before", "after", "reason"),
        [
            ("python=3.11,", "python=3.11, rich, scipy,", "added: rich, scipy"),
            ("'numpy>=1', ", "", "removed: numpy"),
            ("numpy>=1", "numpy>=2", "changed: numpy>=1 -> numpy>=2"),
            ("pip: [tqdm]", "pip: [tqdm>=4]", "changed: tqdm -> tqdm>=4"),
            ("pip: [tqdm]", "pip: [rich]", "added: rich; removed: tqdm"),
            ("conda-forge", "pytorch, conda-forge", "changed: channels conda-forge -> pytorch, conda-forge"),
        ],
    )
    def test_the_reason_names_what_changed(self, write, tmp_path, before, after, reason):
        path = write([conda()])
        assert before in SPEC
        changed = spec(tmp_path, SPEC.replace(before, after))
        assert stale(path, changed) == f"{changed.path}: {reason}"

    def test_no_lock_is_stale(self, tmp_path):
        assert stale(tmp_path / "x.conda-lock.yml", spec(tmp_path)) == "no lock"

    def test_a_missing_platform_is_named(self, write, tmp_path):
        platforms = ("linux-64", "linux-aarch64")
        assert stale(write([conda()]), spec(tmp_path), platforms) == "platform linux-aarch64 is not in it"

    def test_a_lock_of_another_tool_does_not_count(self, write, tmp_path):
        path = write([conda()], metadata={"platforms": ["linux-64"]})
        assert stale(path, spec(tmp_path)) == "x.conda-lock.yml does not say what it was made from"

    def test_a_package_that_left_its_folder_is_named(self, write, tmp_path):
        file = tmp_path / "linux-64" / "numpy-2.0-py311_0.conda"
        file.parent.mkdir()
        file.touch()
        path = write([conda(url=file.as_uri())])
        assert stale(path, spec(tmp_path)) is None
        file.unlink()
        assert stale(path, spec(tmp_path)) == "numpy-2.0-py311_0.conda is gone from its channel"
