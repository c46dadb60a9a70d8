"""The data set's folder: made once, checked each time, and named by its content.

Beside CIFAR-10's files stands a manifest that says what they must be; it comes and goes with their folder, so half a
data set never looks like a whole one. What was hashed once is not hashed again while size and times stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import download, files, offline, progress
from .errors import DataError, SettingsError
from .offline import StandIn, digits
from .settings import FILE, Settings

log = logging.getLogger(__name__)

FOLDER = "cifar-10-batches-py"  # what the archive, torchvision and the trainer call it
MANIFEST = ".parity.json"
SUMS = "SHA256SUMS"  # goes where the data set goes, for whoever reads it; `sha256sum --check` does too


@dataclass(frozen=True, kw_only=True)
class Archive:
    """CIFAR-10 as its authors publish it. size: bytes; md5: of the files in it that are taken, by name."""

    url: str
    size: int
    sha256: str
    md5: tuple[tuple[str, str], ...]


# Address and md5 as in torchvision's datasets/cifar.py; the md5 are for knowing a copy that torchvision has fetched.
CIFAR_10 = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    md5=(
        ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", "40351d587109b95175f43aff81a1287e"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """path: below the data set's folder, with "/"; size in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data set that is whole. path: its folder; digest: 64 hex digits, a function of the files' names and content."""

    path: Path
    digest: str
    files: tuple[DataFile, ...]
    stand_ins: tuple[StandIn, ...]


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """What the files of FOLDER must be: (name, sha256) of each, and whether they are the stand-in."""

    stand_in: bool
    hashes: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, folder: Path) -> _Manifest | None:
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return cls(stand_in=content["stand_in"], hashes=tuple(sorted(content["sha256"].items())))
        except (FileNotFoundError, ValueError, KeyError):
            return None

    @classmethod
    def make(cls, folder: Path, *, stand_in: bool, known: Mapping[str, str] | None = None) -> _Manifest:
        """The manifest of CIFAR-10's files in `folder`, written there with their sums. known: those, if they are."""
        hashes = dict(known or {name: files.sha256(folder / name) for name, _ in CIFAR_10.md5})
        files.write_text(folder / SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items())))
        hashes[SUMS] = files.sha256(folder / SUMS)
        made = cls(stand_in=stand_in, hashes=tuple(sorted(hashes.items())))
        made.write(folder)
        return made

    def write(self, folder: Path) -> None:
        content = {"stand_in": self.stand_in, "sha256": dict(self.hashes)}
        files.write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def prepare(settings: Settings) -> PreparedData:
    """The data set of [data], made if it is not there, and checked.

    For "cifar-10" it is CIFAR-10's seven files and their sums; whatever else lies beside them is not part of it. For
    "none" it is every file below the path. Errors: SettingsError where the run has no data set; DataError for a file
    that is missing, changed or cannot be read; FetchError; OfflineError where CIFAR-10's host cannot be reached and the
    stand-in is refused.
    """
    import filelock

    root = settings.data_path
    if root is None:
        raise SettingsError(
            f'{settings.root / FILE}: data.path = "": the run has no data set, so there is none to get or to push',
            expected='the folder of a data set, e.g. path = "data" under [data]',
            command=f"make run-local, which needs none; or set path in {FILE}, then try again",
        )
    settings.state.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(settings.state / "data.lock"), files.disk_errors(root, "make room, then: make data"):
        if settings.data.dataset == "none":
            found = _hashed(root, _below(root), settings.cache)
            return PreparedData(path=root, digest=_digest(found), files=found, stand_ins=())
        manifest = _cifar_10(root, settings.cache / "data")
        for name, _ in manifest.hashes:
            if not (root / FOLDER / name).is_file():
                raise _not_whole(root / FOLDER, f"{name} is missing")
        found = _hashed(root, [f"{FOLDER}/{name}" for name, _ in manifest.hashes], settings.cache)
        for file, (name, sha256) in zip(found, manifest.hashes, strict=True):
            if file.sha256 != sha256:
                raise _not_whole(
                    root / FOLDER, f"{name} has changed: {file.size:,} bytes, sha256 {file.sha256}", sha256
                )
        stand_ins = (offline.DATA,) if manifest.stand_in else ()
        return PreparedData(path=root, digest=_digest(found), files=found, stand_ins=stand_ins)


def _cifar_10(root: Path, cache: Path) -> _Manifest:
    """The manifest of FOLDER in `root`, which is made or fetched if need be."""
    folder = root / FOLDER
    for left_over in root.glob(f".{FOLDER}.*"):  # of a process that was killed
        shutil.rmtree(left_over)
    manifest = _Manifest.read(folder)
    if manifest and SUMS not in dict(manifest.hashes):  # made before there were any
        manifest = _Manifest.make(folder, stand_in=manifest.stand_in, known=dict(manifest.hashes))
    if manifest is None and folder.exists():
        return _adopted(folder)
    if manifest and not manifest.stand_in:
        return manifest
    if manifest and offline.policy() != "never":
        log.warning("stand-in: %s holds %s (refuse with %s=never)", folder, offline.DATA.replacement, offline.VARIABLE)
        return manifest
    use_stand_in = offline.needed(offline.DATA, reached=lambda: offline.answers(CIFAR_10.url))
    cache.mkdir(parents=True, exist_ok=True)
    archive = None if use_stand_in else fetch(CIFAR_10, cache)
    with files.directory_written_whole(folder) as work:
        if archive:
            extract(archive, work, [name for name, _ in CIFAR_10.md5])
        else:
            digits.write(work, digits.fetch(cache))
        manifest = _Manifest.make(work, stand_in=use_stand_in)
    if archive:
        archive.unlink()  # its files are unpacked; if they are lost, it is fetched again
    return manifest


def _adopted(folder: Path) -> _Manifest:
    """A manifest for files that someone else put there, if they are CIFAR-10's own; torchvision leaves such."""
    for name, md5 in CIFAR_10.md5:
        path = folder / name
        if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            raise DataError(
                f"{folder} is there, but is not what `make data` puts there: "
                f"{name} is {'not' if path.exists() else 'missing, not'} CIFAR-10's",
                expected="CIFAR-10's own files, or no such folder",
                command='move it away, then: make data; or, to use it as it is: dataset = "none" in parity.toml',
            )
    return _Manifest.make(folder, stand_in=False)


def fetch(archive: Archive, directory: Path) -> Path:
    """The archive's file in `directory`, with the right sha256; goes on where an earlier attempt broke off."""
    name = archive.url.rsplit("/", 1)[-1]
    path, part = directory / name, directory / f"{name}.part"
    if path.is_file() and files.sha256(path) == archive.sha256:
        return path
    log.info("Fetching %s, %s", name, files.human(archive.size))
    log.debug("curl -C - -o %s %s", part, archive.url)
    with download.client() as client, progress.task(f"Fetching {name}", total=archive.size, unit="bytes") as task:
        task.advance(part.stat().st_size if part.exists() else 0)
        download.download(name, archive.url, part, client=client, task=task)
    found = files.sha256(part)
    if found != archive.sha256:
        part.unlink()
        raise DataError(
            f"{name} is not the published file: sha256 {found}, from {archive.url}",
            expected=f"sha256 {archive.sha256}",
            command="make data (nothing of it was kept)",
        )
    part.replace(path)
    return path


def extract(archive: Path, directory: Path, names: Iterable[str]) -> None:
    """Unpacks the named plain files of FOLDER in the archive, and nothing else, into `directory`."""
    wanted = {f"{FOLDER}/{name}": name for name in names}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in wanted and member.isreg():
                with files.written_whole(directory / wanted.pop(member.name)) as file:
                    shutil.copyfileobj(tar.extractfile(member), file, files.CHUNK)  # type: ignore[arg-type]
    if wanted:
        raise DataError(f"{archive} lacks {', '.join(sorted(wanted))}", command=f"rm {archive}; make data")


def _below(root: Path) -> Iterator[str]:
    """Every file below `root`. A link that leads out of it leads nowhere in the container, where only `root` is."""
    if not root.is_dir():
        raise DataError(
            f"{root} is {'not a folder' if root.exists() else 'missing'}",
            expected='the folder of your data set, as dataset = "none" in parity.toml says',
            command="put it there, or name its folder as path in [data] of parity.toml",
        )
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink() and (path.readlink().is_absolute() or root.resolve() not in path.resolve().parents):
                raise DataError(
                    f"{path} is a link to {path.readlink()}, which the container does not have",
                    expected=f"files that lie in {root}",
                    command=f"rm {path} && cp -r {path.resolve()} {path}",
                )
        yield from (Path(folder, name).relative_to(root).as_posix() for name in names)


def _hashed(root: Path, paths: Iterable[str], cache: Path) -> tuple[DataFile, ...]:
    """The files with their hashes, sorted by path; only those are read that changed since the last time."""
    index_path = cache / "data" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    try:
        old = json.loads(index_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        old = {}
    new, found = {}, []
    with progress.task("Hashing the data set", unit="bytes") as task:
        for name in sorted(paths):
            try:
                status = (root / name).stat()
                if not stat.S_ISREG(status.st_mode):
                    raise DataError(f"{root / name} is not a plain file", command=f"rm {root / name}")
                # ctime too: a program can set a file's mtime back, but not its ctime
                state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
                known = old.get(name)
                sha256 = known[-1] if known and known[:-1] == state else files.sha256(root / name)
            except OSError as error:
                raise DataError(f"{root / name} cannot be read: {error.strerror}", command=f"ls -l {root}") from error
            task.advance(status.st_size)
            new[name] = [*state, sha256]
            found.append(DataFile(path=name, size=status.st_size, sha256=sha256))
    if new != old:
        files.write_text(index_path, json.dumps(new))
    return tuple(found)


def _digest(found: Iterable[DataFile]) -> str:
    lines = (f"{file.sha256} {file.size} {file.path}\n" for file in found)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _not_whole(folder: Path, problem: str, sha256: str | None = None) -> DataError:
    return DataError(
        f"{folder} is not whole: {problem}",
        expected=f"sha256 {sha256}" if sha256 else "all of CIFAR-10's files",
        command=f"rm -r {folder}; make data",
    )
