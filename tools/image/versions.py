"""What pip's world says of versions and platforms, in conda's words, and back.

PEP 440 and conda's VersionOrder agree on final releases. They differ on two points, which no package here meets unless
it is pinned to: conda puts 1.0rc1 inside ">=0.9,<1.0" and 1.0.post1 inside ">1.0"; PEP 440 does neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.version import InvalidVersion, Version

from ..errors import PackageError

MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}  # conda's name of a platform -> uname's of its machine

# PEP 600's older names, by the minor version of glibc 2 that they stand for.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_NEWEST_GLIBC = 99


@dataclass(frozen=True, kw_only=True)
class Target:
    """The Python that packages are for, on glibc. python: "3.11", or "3.11.2" where it is known; subdir: "linux-64"."""

    python: str
    subdir: str

    def __post_init__(self) -> None:
        if self.subdir not in MACHINES:
            raise PackageError(f"no wheels are used for {self.subdir}", expected=f"one of {', '.join(MACHINES)}")

    @property
    def machine(self) -> str:
        """As uname says it: "x86_64"."""
        return MACHINES[self.subdir]

    @property
    def series(self) -> str:
        """Major and minor version: "3.11"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def next_series(self) -> str:
        """The first one that binary packages made for this one do not run on: "3.12"."""
        major, minor = self.series.split(".")
        return f"{major}.{int(minor) + 1}"

    @property
    def abi(self) -> str:
        """The tag of wheels made for this series alone: "cp311"."""
        return f"cp{self.series.replace('.', '')}"

    @property
    def markers(self) -> dict[str, str]:
        """The environment in which PEP 508 markers are evaluated."""
        full = self.python if self.python.count(".") > 1 else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.series,
            "sys_platform": "linux",
        }

    def platforms(self, glibc: int = _NEWEST_GLIBC) -> Iterator[str]:
        """Platform tags of wheels that run there, best first. glibc: the minor version of glibc 2 that is there."""
        for minor in range(glibc, 4 if self.machine == "x86_64" else 16, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _LEGACY and (self.machine == "x86_64" or minor == 17):
                yield f"{_LEGACY[minor]}_{self.machine}"
        yield f"linux_{self.machine}"

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """Every tag of a wheel that runs there, if glibc is new enough."""
        version = [int(part) for part in self.series.split(".")]
        platforms = list(self.platforms())
        return frozenset(
            (
                *cpython_tags(version, abis=[self.abi], platforms=platforms),
                *compatible_tags(version, interpreter=self.abi, platforms=platforms),
            )
        )


def conda_spec(specifiers: SpecifierSet) -> str:
    """PEP 440 specifiers as a conda version spec, "" for none: "~=1.4.2" -> ">=1.4.2,<1.5".

    Local versions ("+cpu") are left out: they stand in the build string of the packages made here.
    """
    return ",".join(sorted(clause for specifier in specifiers for clause in _conda_clauses(specifier)))


def _conda_clauses(specifier: Specifier) -> Iterator[str]:
    operator, text = specifier.operator, specifier.version
    if operator == "===":
        yield f"=={text.partition('+')[0]}"
        return
    wildcard = text.endswith(".*")
    version = Version(text.removesuffix(".*"))
    public = f"{f'{version.epoch}!' if version.epoch else ''}{version.public.partition('!')[2] or version.public}"
    if operator == "~=":
        yield f">={public}"
        yield f"<{_next(version, len(version.release) - 1)}"
    elif operator == "==" and wildcard:
        yield f">={public}"
        yield f"<{_next(version, len(version.release))}"
    elif operator == "!=" and wildcard:
        yield f"!={public}.*"
    else:
        yield f"{operator}{public}"


def _next(version: Version, length: int) -> str:
    """The first release that does not begin with the first `length` numbers of `version`: 1.4.2, 2 -> "1.5"."""
    numbers = [*version.release[: length - 1], version.release[length - 1] + 1]
    return f"{f'{version.epoch}!' if version.epoch else ''}{'.'.join(map(str, numbers))}"


def pip_spec(spec: str | None) -> SpecifierSet:
    """A conda version spec as PEP 440 specifiers; a clause that has no equal there ("1.0|2.0") holds nothing back."""
    if not spec or "|" in spec:
        return SpecifierSet()
    return SpecifierSet(",".join(clause for part in spec.split(",") if (clause := _pip_clause(part.strip()))))


def _pip_clause(clause: str) -> str:
    match = re.fullmatch(r"(==|!=|>=|<=|~=|=|<|>)?\s*([^*]*?)(\.?\*)?", clause)
    if not match or not match[2]:
        return ""
    operator, version, star = match[1] or ("=" if match[3] else "=="), match[2], match[3]
    if operator == "=":
        operator, star = "==", "*"
    text = f"{operator}{version}{'.*' if star and operator in ('==', '!=') else ''}"
    try:
        Version(version)
        return str(Specifier(text))
    except (InvalidVersion, InvalidSpecifier):
        return ""
