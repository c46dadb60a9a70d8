from collections.abc import Iterator

import pytest
from sdks import Sdk


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    started = Sdk(tmp_path_factory.mktemp("home"))
    yield started
    started.close()
