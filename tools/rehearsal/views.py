"""What the pages show of the workspace: curves thinned out, the end of a log, times and sizes as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from . import definition, times
from .answers import Refusal
from .metrics import Point
from .runs import Run

POINTS = 1000  # of a curve: more than a chart has pixels
TAIL_BYTES = 64 << 10  # of a log, when it is first looked at
PIECE_BYTES = 256 << 10  # of a log, in one answer
TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}")  # a JSON Web Token, such as a job has in its variables


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric as it is drawn: POINTS of its `count` values at most. None stands for what is no number."""

    name: str
    axis: str
    x: Sequence[int]
    y: Sequence[float | None]
    count: int
    last: float | None
    smallest: float | None
    largest: float | None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some lines of a log: bytes start to next of size. skipped: there was more before them than one answer holds."""

    text: str
    start: int
    next: int
    size: int
    skipped: bool


def curve(name: str, points: Sequence[Point]) -> Curve:
    """One metric over its steps; over the order of its values if their script gave no steps that grow."""
    steps = [point.step for point in points]
    known = [step for step in steps if step is not None]
    stepped = len(known) == len(points) and all(a < b for a, b in pairwise(known)) and any(known)
    values = [float(point.value) if math.isfinite(point.value) else None for point in points]
    numbers = [value for value in values if value is not None]
    kept = _thin(values)
    return Curve(
        name=clean(name),
        axis="step" if stepped else "value number",
        x=[known[index] if stepped else index + 1 for index in kept],
        y=[values[index] for index in kept],
        count=len(points),
        last=values[-1] if values else None,
        smallest=min(numbers, default=None),
        largest=max(numbers, default=None),
    )


def _thin(values: Sequence[float | None]) -> list[int]:
    """The indices to draw: the ends, and the lowest and the highest value of each stretch, so that no peak is lost."""
    if len(values) <= POINTS:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    stretch = 2 * len(values) / (POINTS - 2)
    for number in range((POINTS - 2) // 2):
        among = range(int(number * stretch), min(int((number + 1) * stretch), len(values)))
        finite = [(value, index) for index in among if (value := values[index]) is not None]
        kept |= {min(finite)[1], max(finite)[1]} if finite else {among[0]}
    return sorted(kept)


def piece(path: Path, start: int | None, *, over: bool) -> Piece:
    """The log from byte `start` on, or its end; whole lines only, unless nothing more is to come (over)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(0, size - TAIL_BYTES) if start is None or start > size else start
        skipped = start is None and begin > 0
        if size - begin > PIECE_BYTES:
            begin, skipped = size - PIECE_BYTES, True
        file.seek(begin)
        content = file.read(size - begin)
    if skipped and 0 <= (end := content.find(b"\n")) < len(content) - 1:
        content, begin = content[end + 1 :], begin + end + 1
    if not over:
        end = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
        content = content[:end] if end or len(content) < PIECE_BYTES // 2 else content
    text = hidden(content.decode("utf-8", "replace"))
    return Piece(text=text, start=begin, next=begin + len(content), size=size, skipped=skipped)


def clean(text: str) -> str:
    """Text that shows what is in it: control and direction characters written out, tokens hidden."""
    return hidden("".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text))


def hidden(text: str) -> str:
    """The text without tokens."""
    return TOKEN.sub("[token]", text)


def templates() -> jinja2.Environment:
    """The pages. All that they are given is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "called": called,
        "duration": duration,
        "moment": moment,
        "parameter": lambda text: quote(text, safe=""),
        "size": size_of,
        "value": number,
    }
    made.globals["m"] = made.get_template("macros.html").module
    return made


def curves_of(scalars: Iterable[tuple[str, Sequence[Point]]]) -> list[dict[str, Any]]:
    """The curves as JSON."""
    return [asdict(curve(name, points)) for name, points in scalars]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was submitted. facts: (what, value); variables: names alone, values may be secrets; packages: conda's."""

    facts: Sequence[tuple[str, str]]
    variables: Sequence[str]
    packages: Sequence[str]


def submission(run: Run) -> Submission | None:
    """What the run's definition asks for; None for a run that was started by hand, and has none."""
    try:
        asked = definition.read(run.definition)
    except Refusal:
        return None
    environment = asked.environment
    version = f", version {environment.version}" if environment.version else ""
    processes = f"{asked.processes} on {asked.nodes} node{'s' * (asked.nodes > 1)}"
    facts = {
        "Command": asked.line({}),
        "Environment": environment.name + version,
        "Image": environment.image or "",
        "Processes": f"{processes}, by {asked.distribution}" if asked.distribution else processes,
        "Shared memory": size_of(asked.docker.shm_bytes, binary=True),
        "Data": ", ".join(f"{each.name}: {each.datastore}/{each.path} ({each.mode})" for each in asked.data),
    }
    variables = sorted({*asked.variables, *asked.docker.variables})
    dependencies = (environment.conda or {}).get("dependencies") or []
    packages = [
        str(package)
        for each in dependencies
        for package in ([f"pip: {one}" for one in each.get("pip") or ()] if isinstance(each, dict) else [each])
    ]
    return Submission(facts=[(k, v) for k, v in facts.items() if v], variables=variables, packages=packages)


def called(run: Run) -> str:
    """What a run is called: its display name, or its id."""
    return str(run.extra.get("displayName") or run.name or run.id)


def moment(text: str | None) -> str:
    """A moment as the store writes it, for people."""
    parsed = times.parse(text or "")
    return parsed.strftime("%Y-%m-%d %H:%M:%S UTC") if parsed else text or "none"


def duration(run: Run) -> str:
    """From its start, until its end or now."""
    start, end = times.parse(run.started or ""), times.parse(run.ended or "") or datetime.now(timezone.utc)
    if start is None:
        return "none"
    seconds = max(0.0, (end - start).total_seconds())
    if seconds < 60 and run.over:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def size_of(count: int, *, binary: bool = False) -> str:
    """Bytes, for people. binary: in MiB and GiB, as engines count memory."""
    units = (("GiB", 1 << 30), ("MiB", 1 << 20)) if binary else (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
    for unit, factor in units:
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes" if count != 1 else "1 byte"


def number(value: float | None) -> str:
    """A metric's value, short."""
    return "NaN" if value is None else f"{value:.6g}"
