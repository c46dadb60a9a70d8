"""The first run of a new image: its Python imports what the spec asks for, before the image gets its name."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import engine
from ..errors import ImageError

if TYPE_CHECKING:
    import docker

log = logging.getLogger(__name__)

# A package's own module is the one that bears its name, else the largest one it brings (scikit-learn: sklearn).
_SCRIPT = r"""
import collections, importlib, json, os, re, sys
prefix, names = sys.argv[1], json.loads(sys.argv[2])
for entry in sorted(os.listdir(os.path.join(prefix, "conda-meta"))):
    with open(os.path.join(prefix, "conda-meta", entry)) as file:
        meta = json.load(file)
    if meta["name"] not in names:
        continue
    modules = collections.Counter()
    for path in meta.get("files", []):
        found = re.search(r"(?:^|/)site-packages/([A-Za-z0-9]\w*)(?:/.*)?\.(?:py|so)$", path.replace(".cpython-", "."))
        found = found or re.search(r"(?:^|/)site-packages/([A-Za-z0-9]\w*)\.[\w-]+\.so$", path)
        if found:
            modules[found.group(1)] += 1
    own = meta["name"].replace("-", "_")
    for module in [own] if own in modules else [name for name, _ in modules.most_common(1)]:
        try:
            importlib.import_module(module)
        except BaseException as error:
            sys.exit(f"{meta['name']} {meta['version']}: import {module}: {type(error).__name__}: {error}")
"""


def test(client: docker.DockerClient, image_id: str, prefix: str, names: Sequence[str]) -> None:
    """Imports the packages of these names in a container of the image, without network.

    Errors: ImageError names the package and says what its import said.
    """
    from docker.errors import ContainerError

    command = [f"{prefix}/bin/python", "-c", _SCRIPT, prefix, json.dumps(sorted(names))]
    log.info("Testing the image: import %s", ", ".join(sorted(names)))
    with engine.errors("testing the image"):
        try:
            client.containers.run(image_id, command, remove=True, network_mode="none", stderr=True)
        except ContainerError as error:
            lines = _text(error.stderr).strip().splitlines()
            raise ImageError(
                f"the new image does not work: {lines[-1] if lines else f'exit code {error.exit_status}'}",
                expected="each package of the spec can be imported; the image was not given its name",
                command="change the versions in the spec, then: make lock image",
            ) from error


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
