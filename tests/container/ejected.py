"""What the ejected Dockerfile is built with, where neither a registry nor micromamba can be reached.

The image that it starts from is the stand-in base. The installer has a `micromamba` of rattler's, which takes the same
command line; what it links, it verifies by sha256, as micromamba does.
"""

import contextlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import docker

from tools import files
from tools.environment.lock import Lock
from tools.image import archive, base, dockerfile, store
from tools.image.archive import Layer
from tools.settings import Settings

HOME = "/opt/installer"
LABEL = "parity-test-ejected"  # also on the stages that a builder leaves
BASE, INSTALLER = "parity-test-base:1", "parity-test-installer:1"
MICROMAMBA = f"""\
#!{HOME}/bin/python
import argparse, asyncio, hashlib, os, pathlib, rattler, sys
parser = argparse.ArgumentParser()
parser.add_argument("create", choices=["create"])
parser.add_argument("--yes", action="store_true", required=True)
parser.add_argument("--prefix", required=True)
parser.add_argument("--file", type=pathlib.Path, required=True)
options = parser.parse_args()
first, *addresses = options.file.read_text().splitlines()
assert first == "@EXPLICIT", first
paths = []
for address in addresses:
    url, _, sha256 = address.partition("#")
    paths.append(pathlib.Path(url.removeprefix("file://")))
    assert hashlib.sha256(paths[-1].read_bytes()).hexdigest() == sha256, address

async def install():
    records = [await rattler.RepoDataRecord.from_package_archive(path) for path in paths]
    await rattler.install(records, options.prefix, cache_dir="/tmp/extracted", show_progress=False)

asyncio.run(install())
sys.stdout.flush()
os._exit(0)
"""


def images(client: docker.DockerClient, settings: Settings, lock: Lock) -> dict[str, str]:
    """The build arguments BASE and INSTALLER; `remove` takes away their images, and what was built on them."""
    python = next(each for each in lock.for_platform(settings.image.platform) if each.name == "python")
    layers = base.get(settings, client=client).layers
    with tempfile.TemporaryDirectory() as name:
        layer = _installer(Path(name), Path(unquote(urlsplit(python.url).path)))
        for tag, stack in ((BASE, layers), (INSTALLER, (*layers, layer))):
            variables = {"PATH": f"{HOME}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
            image = archive.assemble(
                stack, platform=settings.image.platform, environment=variables, labels={LABEL: "1"}
            )
            store.load(client, image)
            client.api.tag(image.id, *tag.split(":"), force=True)
    return {"BASE": BASE, "INSTALLER": INSTALLER}


def remove(client: docker.DockerClient) -> None:
    """Takes what was made here out of the engine."""
    for image in client.images.list(filters={"label": LABEL}):
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.api.remove_image(image.id, force=True)


def context(settings: Settings, lock: Lock) -> Iterator[bytes]:
    """The build context, as a tar: the Dockerfile, and what it copies."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            text = dockerfile.text(settings, lock).encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
            for place, url in sorted(dockerfile.context(lock, settings.image.platform).items()):
                tar.add(unquote(urlsplit(url).path), place)
        file.seek(0)
        while chunk := file.read(files.CHUNK):
            yield chunk


def build(client: docker.DockerClient, settings: Settings, lock: Lock, arguments: dict[str, str], tag: str) -> None:
    """As `docker build` does."""
    with tempfile.TemporaryFile() as file:
        file.writelines(context(settings, lock))
        file.seek(0)
        lines = []
        for event in client.api.build(
            fileobj=file, custom_context=True, tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True
        ):
            lines.append(str(event.get("stream") or event.get("error") or ""))
            assert "error" not in event, "".join(lines[-20:])


def _installer(folder: Path, python: Path) -> Layer:
    """Python for HOME, with rattler of this machine's own, and the script."""
    root = folder / "root" / HOME.strip("/")
    script = (
        "import asyncio, os, rattler, sys\n"
        "async def link():\n"
        "    record = await rattler.RepoDataRecord.from_package_archive(sys.argv[1])\n"
        "    await rattler.install([record], sys.argv[2], cache_dir=sys.argv[3], show_progress=False,\n"
        f"        alternative_target_prefix={HOME!r})\n"
        "asyncio.run(link()); os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, python, root, folder / "cache"], check=True)
    packages = next((root / "lib").glob("python3.*/os.py")).parent / "site-packages"
    for file in metadata.files("py-rattler") or ():
        if file.parts[0] == "rattler":
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), packages / file)
    (root / "bin" / "micromamba").write_text(MICROMAMBA)
    (root / "bin" / "micromamba").chmod(0o755)
    path = folder / "layer.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "root", ".")
    digest = files.sha256(path)
    return Layer(diff_id=f"sha256:{digest}", path=path, size=path.stat().st_size, comment="installer")
