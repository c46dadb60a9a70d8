"""The facts of two runs that are not alike, each with what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..runs.record import Record
from . import weights
from .facts import MISSING, UNKNOWN, Facts, Key
from .weights import Weight

DIFF = "python -m tools image diff"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A fact that two runs do not have alike. one, two: its values, MISSING, or UNKNOWN where nobody saw it.

    how: what removes it, if that is in a user's hands; subject: what a verdict calls it, "" if it follows from another
    one; place: of its rule among the rules.
    """

    key: Key
    one: Any
    two: Any
    weight: Weight
    reason: str
    how: str | None
    subject: str
    place: int = field(repr=False)

    @property
    def known(self) -> bool:
        """Whether both sides were seen."""
        return self.one is not UNKNOWN and self.two is not UNKNOWN


def between(one: Facts, two: Facts, runs: tuple[Record, Record]) -> tuple[tuple[Difference, ...], dict[Key, Any]]:
    """The differences, the gravest first, and the facts that both runs have alike."""
    found, equal = [], {}
    for key in dict.fromkeys([*one.values, *two.values]):
        a, b = one.get(key), two.get(key)
        if _alike(key, a, b):
            equal[key] = a
        elif not _follows(key, one, two):
            found.append(_difference(key, a, b))
    found.sort(key=lambda each: (weights.WEIGHTS.index(each.weight), each.place, each.key))
    packages = any(each.key.group == "package" and each.known for each in found)
    return tuple(_image(each, runs, packages) if each.key == ("image", "id", 0) else each for each in found), equal


def _alike(key: Key, one: Any, two: Any) -> bool:
    if one is UNKNOWN or two is UNKNOWN:
        return False
    if key.group == "file" and one is not MISSING and two is not MISSING and not ("sha256" in one and "sha256" in two):
        return bool(one.split(" sha256")[0] == two.split(" sha256")[0])  # too large to be hashed: the digest tells them
    return bool(one == two)


def _follows(key: Key, one: Facts, two: Facts) -> bool:
    """Whether a variable is seen with another value because another one was set."""
    if key.group not in ("variable seen", "name of variable"):
        return False
    ordered = Key("variable", key.name)
    if one.get(ordered) == two.get(ordered):
        return False
    if key.group == "name of variable":
        return True
    nothing = (MISSING, UNKNOWN)
    return all(side.get(key) in (*nothing, side.get(ordered)) for side in (one, two))


def _difference(key: Key, one: Any, two: Any) -> Difference:
    place, meaning = weights.of(key)
    return Difference(
        key=key,
        one=one,
        two=two,
        weight=meaning.weight,
        reason=meaning.reason,
        how=meaning.how.replace("{name}", key.name) if meaning.how else None,
        subject=meaning.subject.replace("{name}", key.name).replace("{group}", key.group),
        place=place,
    )


def _image(difference: Difference, runs: tuple[Record, Record], packages: bool) -> Difference:
    """The difference of two images, with what lists theirs: packages that were seen, or the images themselves."""
    if not difference.known:
        return difference
    names = [_reference(run.ingredients["image"], other.ingredients["image"]) for run, other in (runs, runs[::-1])]
    command = " ".join([DIFF, *names])
    if packages:
        return replace(difference, how=f"{difference.how}; all that differs: {command}")
    return replace(
        difference,
        reason="another image, and what differs is not the version of a package",
        how=f"run both from one image; what differs: {command}",
    )


def _reference(image: Mapping[str, str], other: Mapping[str, str]) -> str:
    """What the engine knows an image by; its id where both have one name."""
    return image["id"].removeprefix("sha256:")[:12] if image["reference"] == other["reference"] else image["reference"]
