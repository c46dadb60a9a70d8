from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tools.environment.lock import Package
from tools.image import layers
from tools.image.packages import Fetched


def fetched(name: str, size: int, version: str = "1") -> Fetched:
    package = Package(
        name=name,
        version=version,
        build="0",
        manager="conda",
        url=f"https://channel.invalid/{name}-{version}-0.conda",
        sha256=name.ljust(64, "0"),
        md5=None,
        platform="linux-64",
        dependencies=(),
    )
    return Fetched(package=package, path=Path(name), size=size)


sizes = st.dictionaries(st.text("abcdefghij", min_size=1, max_size=6), st.integers(1, 10**9), min_size=1, max_size=150)


def names(groups: tuple[layers.Group, ...]) -> list[tuple[str, ...]]:
    return [tuple(each.package.name for each in group.packages) for group in groups]


@given(sizes, st.randoms())
def test_every_package_is_in_one_layer_and_order_of_packages_does_not_matter(sizes: dict[str, int], random) -> None:
    packages = [fetched(name, size) for name, size in sizes.items()]
    groups = names(layers.grouped(packages))
    assert sorted(name for group in groups for name in group) == sorted(sizes)
    random.shuffle(packages)
    assert names(layers.grouped(packages)) == groups
    assert len(groups) <= layers.OWN + layers.BUCKETS


@given(sizes, st.data())
def test_a_new_version_of_about_the_same_size_moves_no_other_package(sizes: dict[str, int], data) -> None:
    bumped = data.draw(st.sampled_from(sorted(sizes)))
    before = names(layers.grouped(fetched(name, size) for name, size in sizes.items()))
    after = names(layers.grouped(fetched(name, size, "2" if name == bumped else "1") for name, size in sizes.items()))
    assert before == after


def test_big_packages_stand_alone_and_come_first() -> None:
    packages = [fetched("tqdm", 80_000), fetched("python", 30_000_000), fetched("pytorch", 200_000_000)]
    assert names(layers.grouped(packages)) == [("pytorch",), ("python",), ("tqdm",)]
