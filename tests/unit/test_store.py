import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.errors import ImageNotFound

from tools.errors import EngineError
from tools.image import archive, store
from tools.image.archive import Assembly, Layer


class Engine:
    """An engine with an image whose layers are the first `known` ones; `whole`: it refuses a part of an image."""

    def __init__(self, assembly: Assembly, *, known: int, whole: bool = False, broken: bool = False) -> None:
        diff_ids = [layer.diff_id for layer in assembly.layers]
        earlier = SimpleNamespace(attrs={"RootFS": {"Layers": diff_ids[:known]}})
        self.assembly, self.whole, self.broken, self.loads, self.loaded = assembly, whole, broken, [], False
        self.images = SimpleNamespace(list=lambda filters: [earlier], get=self.get)
        self.api = SimpleNamespace(load_image=self.load)

    def get(self, reference: str) -> object:
        if not self.loaded:
            raise ImageNotFound(reference)
        return object()

    def load(self, data: Iterable[bytes]) -> Iterator[dict[str, str]]:
        content = b"".join(data)
        self.loads.append([layer.path.read_bytes() in content for layer in self.assembly.layers])
        if self.broken or (self.whole and not all(self.loads[-1])):
            yield {"error": "no such file or directory"}
        else:
            self.loaded = True


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    layers = []
    for name in ("base", "python", "tqdm"):
        content = name.encode() * 1000
        (tmp_path / name).write_bytes(content)
        diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
        layers.append(Layer(diff_id=diff_id, path=tmp_path / name, size=len(content), comment=name))
    return archive.assemble(layers, platform="linux-64", environment={}, labels={})


def test_only_what_the_engine_lacks_is_sent(assembly: Assembly) -> None:
    engine = Engine(assembly, known=2)
    store.load(engine, assembly)
    assert engine.loads == [[False, False, True]]


def test_an_engine_that_refuses_a_part_gets_the_whole(assembly: Assembly) -> None:
    engine = Engine(assembly, known=2, whole=True)
    store.load(engine, assembly)
    assert engine.loads == [[False, False, True], [True, True, True]]


def test_an_engine_that_refuses_the_whole_is_an_error_with_its_words(assembly: Assembly) -> None:
    with pytest.raises(EngineError, match="no such file or directory"):
        store.load(Engine(assembly, known=0, broken=True), assembly)
