from collections.abc import Iterator

import chromium
import pytest


@pytest.fixture(scope="module")
def page() -> Iterator[chromium.Page]:
    """A page of a real browser."""
    executable = chromium.find()
    if executable is None:
        pytest.skip("no chromium here, and it cannot be installed; next: apt-get install chromium")
    opened = chromium.Page(executable)
    yield opened
    opened.close()
