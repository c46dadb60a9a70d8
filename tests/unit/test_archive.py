import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tools.image import archive
from tools.image.archive import Layer


@pytest.fixture
def layers(tmp_path: Path) -> list[Layer]:
    made = []
    for index, content in enumerate([b"base", b"python" * 1000, b"tqdm"]):
        path = tmp_path / f"{index}.tar"
        path.write_bytes(content)
        diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
        made.append(Layer(diff_id=diff_id, path=path, size=len(content), comment=f"layer {index}"))
    return made


def assemble(layers: list[Layer], **changes: dict[str, str]) -> archive.Assembly:
    options = {"environment": {"B": "2", "A": "1"}, "labels": {"x": "y"}, **changes}
    return archive.assemble(layers, platform="linux-64", **options)


def members(stream: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


def test_the_id_is_the_hash_of_the_config_that_is_sent(layers: list[Layer]) -> None:
    image = assemble(layers)
    content = members(b"".join(archive.stream(image)))
    manifest = json.loads(content["manifest.json"])[0]
    assert f"sha256:{hashlib.sha256(content[manifest['Config']]).hexdigest()}" == image.id
    assert [content[path] for path in manifest["Layers"]] == [layer.path.read_bytes() for layer in layers]


def test_the_id_depends_on_layers_variables_and_labels_and_not_on_their_order_or_place(layers: list[Layer]) -> None:
    same = assemble(layers, environment={"A": "1", "B": "2"})
    assert same.id == assemble(layers).id
    others = {
        assemble(layers[::-1]).id,
        assemble(layers, environment={}).id,
        assemble(layers, labels={}).id,
        assemble(layers).id,
    }
    assert len(others) == 4


def test_known_layers_are_left_out_only_where_all_below_them_are_known(layers: list[Layer]) -> None:
    image = assemble(layers)
    chain = archive.chain_ids([layer.diff_id for layer in layers])
    content = members(b"".join(archive.stream(image, known=frozenset(chain[:2]))))
    manifest = json.loads(content["manifest.json"])[0]
    assert [path in content for path in manifest["Layers"]] == [False, False, True]


def test_chain_ids_follow_the_image_specification() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert archive.chain_ids([one]) == (one,)
    assert archive.chain_ids([one, two])[1] == "sha256:" + hashlib.sha256(f"{one} {two}".encode()).hexdigest()
