"""What an image is made of, layer by layer, and what of it a machine with an earlier image would have to pull."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import engine, files

if TYPE_CHECKING:
    import docker


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer, as the engine has it. size: bytes, unpacked; content: its packages; shared: the earlier image has it."""

    diff_id: str
    size: int
    content: str
    shared: bool


@dataclass(frozen=True, kw_only=True)
class Overview:
    """An image. rows: its layers, bottom first."""

    reference: str
    id: str
    rows: tuple[Row, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers, unpacked."""
        return sum(row.size for row in self.rows)

    @property
    def new(self) -> int:
        """Bytes of the layers that the earlier image does not have."""
        return sum(row.size for row in self.rows if not row.shared)


def of(client: docker.DockerClient, reference: str, *, earlier: str | None = None) -> Overview:
    """The overview of an image in the engine; ImageError if it is not there. earlier: an image to compare it with."""
    with engine.errors(f"looking for {reference}"):
        image = client.images.get(reference)
        history: list[dict[str, Any]] = client.api.history(image.id)  # type: ignore[no-untyped-call]
    present = set(_diff_ids(client, earlier)) if earlier else set()
    # the engine tells the history newest first; each entry of an image of ours is a layer
    rows = [
        Row(
            diff_id=diff_id,
            size=entry["Size"],
            content=entry["CreatedBy"].removeprefix("parity: "),
            shared=diff_id in present,
        )
        for diff_id, entry in zip(image.attrs["RootFS"]["Layers"], _layers(history), strict=True)
    ]
    return Overview(reference=reference, id=str(image.id), rows=tuple(rows))


def _layers(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of the layers, bottom first; images that others built also have entries without a layer."""
    ours = all(entry["CreatedBy"].startswith("parity: ") for entry in history)
    return [entry for entry in reversed(history) if ours or entry["Size"]]


def _diff_ids(client: docker.DockerClient, reference: str) -> list[str]:
    with engine.errors(f"looking for {reference}"):
        return list(client.images.get(reference).attrs["RootFS"]["Layers"])


def lines(overview: Overview, *, earlier: str | None) -> Iterator[str]:
    """The overview for people: a line a layer, then the sum."""
    yield f"{overview.reference}  {overview.id}"
    for index, row in enumerate(overview.rows):
        mark = "" if earlier is None else "shared " if row.shared else "new    "
        yield f"{index:3} {files.human(row.size):>11}  {mark}{row.content}"
    yield f"    {files.human(overview.size):>11}  in {len(overview.rows)} layers, unpacked"
    if earlier is not None:
        share = 100 * overview.new / max(1, overview.size)
        yield f"    {files.human(overview.new):>11}  to pull where {earlier} is ({share:.1f} %), before compression"
