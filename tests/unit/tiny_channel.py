"""A conda channel of a few packages, in a folder: what a test of locking solves against."""

import hashlib
import json
from pathlib import Path


class TinyChannel:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for subdir in ("noarch", "linux-64", "linux-aarch64"):
            (folder / subdir).mkdir(parents=True)
            self._write(subdir, {})

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(self, name, version, *, depends=(), constrains=(), build="0", subdir="noarch"):
        content = f"{name}-{version}-{build}".encode()
        file = f"{name}-{version}-{build}.conda"
        (self.folder / subdir / file).write_bytes(content)
        packages = self._packages(subdir)
        packages[file] = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": 0,
            "depends": list(depends),
            "constrains": list(constrains),
            "subdir": subdir,
            "md5": hashlib.md5(content).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        } | ({"noarch": "generic"} if subdir == "noarch" else {})
        self._write(subdir, packages)

    def remove(self, name, version, *, build="0", subdir="noarch"):
        file = f"{name}-{version}-{build}.conda"
        (self.folder / subdir / file).unlink()
        packages = self._packages(subdir)
        del packages[file]
        self._write(subdir, packages)

    def _packages(self, subdir):
        return json.loads((self.folder / subdir / "repodata.json").read_text())["packages.conda"]

    def _write(self, subdir, packages):
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
        (self.folder / subdir / "repodata.json").write_text(json.dumps(repodata))
