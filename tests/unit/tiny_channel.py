"""A conda channel and a simple index of a few packages, in folders: what a test of locking solves against."""

import base64
import hashlib
import http.server
import io
import json
import tarfile
import zipfile
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

    def add(self, name, version, *, depends=(), constrains=(), build="0", number=0, subdir="noarch"):
        content = f"{name}-{version}-{build}".encode()
        file = f"{name}-{version}-{build}.conda"
        (self.folder / subdir / file).write_bytes(content)
        packages = json.loads((self.folder / subdir / "repodata.json").read_text())["packages.conda"]
        packages[file] = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": number,
            "depends": list(depends),
            "constrains": list(constrains),
            "subdir": subdir,
            "md5": hashlib.md5(content).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        } | ({"noarch": "generic"} if subdir == "noarch" else {})
        self._write(subdir, packages)

    def _write(self, subdir, packages):
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1}
        (self.folder / subdir / "repodata.json").write_text(json.dumps(repodata))


def add_sdist(folder: Path, name, version):
    """Puts a source distribution without dependencies into the simple index under `folder`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        text = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\nRequires-Dist: right\n".encode()
        for file in (f"{name}-{version}/PKG-INFO", f"{name}-{version}/{name}.egg-info/PKG-INFO"):
            member = tarfile.TarInfo(file)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    _publish(folder, name, f"{name}-{version}.tar.gz", content.getvalue())


def add_wheel(folder: Path, name, version, *, requires=()):
    """Puts a wheel into the simple index under `folder` and gives its sha256."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        needs = "".join(f"Requires-Dist: {required}\n" for required in requires)
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return _publish(folder, name, f"{name}-{version}-py3-none-any.whl", content.getvalue())


def _publish(folder: Path, name, file, content):
    digest = hashlib.sha256(content).hexdigest()
    page = folder / "simple" / name / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    with page.open("a") as listing:
        listing.write(f'<a href="../../{file}#sha256={digest}">{file}</a><br>\n')
    return digest


class PasswordHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder to user "me" with password "p@ss/word"."""

    expected = "Basic " + base64.b64encode(b"me:p@ss/word").decode()

    def send_head(self):
        if self.headers.get("Authorization") != self.expected:
            self.send_error(401)
            return None
        return super().send_head()

    def log_message(self, *_):
        pass
