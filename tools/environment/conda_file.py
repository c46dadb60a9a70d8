"""conda environment files: channels, match specs, the `pip:` section and conda-lock's platform selectors, by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SpecError, nearest
from . import requirements

_KEYS = ("name", "channels", "dependencies", "prefix")  # what `conda env export` writes
_INSTEAD = {
    "variables": "variables in parity.toml, [run.environment_variables]",
    "pip-repositories": "the index in pip's own configuration: pip config set global.index-url URL",
    "platforms": "the platform in parity.toml, [image] platform",
}
_EXAMPLE = "a conda spec, e.g. dependencies: [python=3.11, numpy]"

# Platform selectors as conda-lock 4 knows them (src_parser/selectors.py). Those of any Linux hold for every image here.
_SELECTOR = re.compile(r"#.*\[(?P<name>linux64|aarch64|linux|unix|osx64|osx|arm64|win64|win|ppc64le)\]")
_ANY_LINUX = ("linux", "unix")
_ONE_LINUX = ("linux64", "aarch64")

_NAME = re.compile(r"^(?P<channel>[^\s:]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<rest>(?:$|[\s<>=!~*\[]).*)?$")


@dataclass(frozen=True, kw_only=True)
class CondaFile:
    """channels: none if the file names none. dependencies, pip, hashes: as `EnvironmentSpec` has them."""

    channels: tuple[str, ...]
    dependencies: tuple[str, ...]
    pip: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...]


def package_name(match_spec: str) -> str:
    """The name in a match spec: "conda-forge::NumPy>=2" -> "numpy"."""
    match = _NAME.match(match_spec)
    return match["name"].lower() if match else match_spec


def without_channel(match_spec: str) -> str:
    """The match spec for any channel: "conda-forge::numpy>=2" -> "numpy>=2"."""
    match = _NAME.match(match_spec)
    return match_spec[len(match["channel"]) :] if match and match["channel"] else match_spec


def normalised(match_spec: str) -> str:
    """The same text for match specs that mean the same: "NumPy >= 2, <3" and "numpy >=2,<3"."""
    spec, hash_sign, selector = match_spec.partition("#")
    spec = re.sub(r"\s*([<>=!~,|]+)\s*", r"\1", " ".join(spec.split()))
    if match := _NAME.match(spec):
        spec = (match["channel"] or "") + match["name"].lower() + (match["rest"] or "")
    return f"{spec}  # {selector.strip()}" if hash_sign else spec


def read(path: Path) -> CondaFile:
    """Reads a conda environment file.

    Errors: SpecError with file, line or key, what was found, what was expected, and the nearest name.
    """
    return _Document(path).read()


class _Document:
    """A YAML file whose entries know their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{path}: cannot be read: {error}", expected="a conda spec in UTF-8") from error
        self.lines = text.splitlines()
        self.entries = self._entries(text)

    def _entries(self, text: str) -> dict[str, Any]:
        """The top-level keys, each with its node."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            root: Any = yaml.compose(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            raise SpecError(f"{self.path}{line}: not valid YAML: {error.problem}", expected=_EXAMPLE) from error
        except yaml.YAMLError as error:
            raise SpecError(f"{self.path}: not valid YAML: {error}", expected=_EXAMPLE) from error
        if root is None or root.id != "mapping":
            found = "empty" if root is None else f"a {root.id}, not a mapping"
            raise SpecError(f"{self.path}: {found}", expected=_EXAMPLE)
        for key, _ in root.value:
            if key.value not in _KEYS:
                raise SpecError(
                    f"{self.where(key)}: unknown key {key.value}{nearest(str(key.value), _KEYS)}",
                    expected=_INSTEAD.get(str(key.value), ", ".join(_KEYS)),
                )
        return {key.value: value for key, value in root.value}

    def where(self, node: Any) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def read(self) -> CondaFile:
        if "dependencies" not in self.entries:
            raise SpecError(f"{self.path}: no dependencies", expected=_EXAMPLE)
        dependencies, pip, hashes = list[str](), list[str](), list[tuple[str, str]]()
        for item in self.items(self.entries["dependencies"], "dependencies"):
            if item.id == "mapping":
                section = self.pip_section(item)
                pip += section.requirements
                hashes += section.hashes
            else:
                dependencies += self.dependency(item)
        names = [package_name(text) for text in dependencies]
        if not dependencies:
            raise SpecError(f"{self.path}: dependencies holds no package for Linux", expected=_EXAMPLE)
        if pip and "python" not in names:
            raise SpecError(f"{self.path}: a pip section without python", expected="python=3.11 in dependencies")
        if pip and "pip" not in names:
            dependencies.append("pip")
        return CondaFile(
            channels=self.channels(),
            dependencies=tuple(dependencies),
            pip=tuple(pip),
            hashes=tuple(sorted(set(hashes))),
        )

    def items(self, node: Any, key: str) -> list[Any]:
        if node.id != "sequence":
            found = "nothing" if node.value == "" else f"a {node.id}"
            raise SpecError(f"{self.where(node)}: {key}: {found}", expected=f"a list, e.g. {key}: [...]")
        return list(node.value)

    def text(self, item: Any, key: str) -> str:
        tag = item.tag.rsplit(":", 1)[-1]
        if tag != "str" or not item.value.strip():
            found = f"{item.value}, a {tag}" if tag in ("int", "float", "bool") else f"a {tag}"
            expected = "a name, with its version in the same text, e.g. python=3.11"
            raise SpecError(f"{self.where(item)}: {key}: {found}", expected=expected)
        return str(item.value).strip()

    def texts(self, node: Any, key: str) -> Iterator[tuple[str, str]]:
        """(text, "file:line") of each entry of a list."""
        for item in self.items(node, key):
            yield self.text(item, key), self.where(item)

    def channels(self) -> tuple[str, ...]:
        """Names or addresses; one with credentials is refused, since addresses stand in locks and in process lists."""
        named = list[str]()
        for text, where in self.texts(self.entries["channels"], "channels") if "channels" in self.entries else ():
            if re.search(r"://[^/]*@|/t/", text):
                raise SpecError(
                    f"{where}: channels: an address with credentials",
                    expected="the address alone; the credentials belong in rattler's login store or RATTLER_AUTH_FILE",
                )
            named.append(text.rstrip("/"))
        return tuple(dict.fromkeys(name for name in named if name != "nodefaults"))

    def dependency(self, item: Any) -> list[str]:
        """The match spec of one line; none if its selector excludes Linux."""
        text = self.text(item, "dependencies")
        if not _NAME.match(text) or "#" in text:
            raise SpecError(f"{self.where(item)}: dependencies: {text!r} is no match spec", expected="e.g. numpy>=2")
        selector = _SELECTOR.search(self.lines[item.end_mark.line][item.end_mark.column :])
        if selector is None or selector["name"] in _ANY_LINUX:
            return [text]
        return [f"{text}  # [{selector['name']}]"] if selector["name"] in _ONE_LINUX else []

    def pip_section(self, node: Any) -> requirements.Requirements:
        """The requirements under `- pip:`, with those of the files that it names by -r."""
        texts, hashes = list[str](), list[tuple[str, str]]()
        for key, value in node.value:
            if key.value != "pip":
                raise SpecError(f"{self.where(key)}: dependencies: unknown section {key.value}", expected="pip: [...]")
            for text, where in self.texts(value, "pip"):
                section = requirements.entry(text, where, self.path)
                texts += section.requirements
                hashes += section.hashes
        return requirements.Requirements(requirements=tuple(texts), hashes=tuple(hashes))
