"""PyTorch without CUDA from an index of wheels: which torch to take, and torchvision made to work beside it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from pathlib import Path

from packaging.specifiers import SpecifierSet

from .. import files
from ..errors import OfflineError
from ..image.versions import Target
from ..image.wheels import Wheel
from . import pypi

HELP = "tell pip where CPU wheels of torch are (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL), or reach the conda channel"

NONE = "torch<0"
_INIT = "torchvision/__init__.py"
_VERSION = "torchvision/version.py"
_ANCHOR = b"from . import extension  # usort:skip  # noqa: F401\n"
_SCHEMAS = b"""
# This wheel's operators need CUDA's libraries and are left out. What is registered for two of them below needs their
# schemas; calling one raises the RuntimeError that torchvision itself has for a build without operators.
_operators = torch.library.Library("torchvision", "DEF")
_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""


def constraint(wanted: SpecifierSet, target: Target) -> str | None:
    """What holds pip to a CPU build of torch: "torch==2.13.0+cpu", the newest that `wanted` allows.

    A CPU build for x86_64 has "+cpu" in its version; where pip finds none, "torch<0" ends its search before it fetches
    gigabytes of CUDA. None where builds cannot be told apart by their version (aarch64): see `check`.
    """
    if target.machine != "x86_64":
        return None
    allowed = [version for version in pypi.versions("torch", target) if wanted.contains(version, prereleases=False)]
    newest = max((version for version in allowed if version.local == "cpu"), default=None)
    return f"torch=={newest}" if newest else NONE


def check(wheel: Wheel, target: Target) -> None:
    """Raises OfflineError if this wheel of torch is a CUDA build."""
    needed = sorted(requirement.name for requirement in wheel.needs(target))
    if cuda := [name for name in needed if name.startswith(("nvidia-", "cuda-"))]:
        raise OfflineError(
            f"pip finds only a CUDA build of torch {wheel.version}: it needs {cuda[0]}",
            expected="a CPU build",
            command=HELP,
        )


def without_cuda(torchvision: Path, folder: Path) -> Path:
    """A wheel of torchvision that works beside a CPU torch: the same one, or a mended copy of it in `folder`.

    The index's wheel for x86_64 is a CUDA build. Beside a CPU torch its libraries do not load, and then its import
    fails where it registers implementations of operators that nobody defined. The copy has the operators' schemas and
    none of the libraries: data sets, transforms and models work, torchvision.ops raises a RuntimeError that says why.
    Errors: OfflineError if this release is built in another way.
    """
    with zipfile.ZipFile(torchvision) as source:
        names = source.namelist()
        if not any(name.startswith("torchvision.libs/libcudart.") for name in names):
            return torchvision
        if source.read(_INIT).count(_ANCHOR) != 1:
            raise OfflineError(
                f"{torchvision.name} is a CUDA build, and not one that is known how to mend",
                expected="torchvision 0.28",
                command=f"hold torchvision=0.28 in the spec, or {HELP}",
            )
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        with files.written_whole(folder / torchvision.name) as file, zipfile.ZipFile(file, "w") as copy:
            for item in source.infolist():
                plain = zipfile.ZipInfo(item.filename, item.date_time)
                plain.external_attr = item.external_attr
                if item.filename == record:
                    copy.writestr(plain, _record(source, record))
                elif not _is_library(item.filename):
                    copy.writestr(plain, _mended(source, item.filename))
    return folder / torchvision.name


def _is_library(name: str) -> bool:
    return name.startswith("torchvision.libs/") or (name.startswith("torchvision/") and name.endswith(".so"))


def _mended(source: zipfile.ZipFile, name: str) -> bytes:
    content = source.read(name)
    if name == _INIT:
        return content.replace(_ANCHOR, _ANCHOR + _SCHEMAS)
    if name == _VERSION:
        return re.sub(rb"\+cu\d+", b"", content)  # it is no CUDA build any more; METADATA never said so
    return content


def _record(source: zipfile.ZipFile, name: str) -> bytes:
    """RECORD of the copy: what was not touched keeps its row, so its content is still held against it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in csv.reader(io.StringIO(source.read(name).decode())):
        if row[0] in (_INIT, _VERSION):
            content = _mended(source, row[0])
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            row = [row[0], f"sha256={digest}", str(len(content))]
        if not _is_library(row[0]):
            writer.writerow(row)
    return text.getvalue().encode()
