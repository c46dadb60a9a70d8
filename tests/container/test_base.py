import re
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tools import files, settings
from tools.image import base
from tools.image.base import Base
from tools.offline import base as stand_in
from tools.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The stand-in, made by the project's own docker folder."""
    root = tmp_path_factory.mktemp("stand-in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARITY_OFFLINE", "always")
        return base.get(project(root, (ROOT / "docker" / "Dockerfile").read_text()), client=None)


def project(root: Path, dockerfile: str) -> Settings:
    (root / "docker").mkdir()
    (root / "docker" / "Dockerfile").write_text(dockerfile)
    (root / "docker" / "packages.txt").write_text((ROOT / "docker" / "packages.txt").read_text())
    (root / "parity.toml").touch()
    return settings.load(root)


@pytest.fixture(scope="session")
def imported(made: Base, client: docker.DockerClient) -> Iterator[str]:
    """The stand-in as an image of its own in the engine."""
    reference = f"parity-test-base:{uuid.uuid4().hex[:12]}"
    repository, _, tag = reference.partition(":")
    with made.layers[0].path.open("rb") as tar:
        client.api.import_image_from_data(tar, repository=repository, tag=tag)
    yield reference
    client.images.remove(reference)


def test_the_stand_in_has_the_same_bytes_every_time(made: Base, tmp_path: Path) -> None:
    names = re.findall(r"^[a-z0-9.+-]+", (ROOT / "docker" / "packages.txt").read_text(), re.MULTILINE)
    stand_in.make(names, tmp_path / "again.tar", platform="linux-64")
    assert files.sha256(tmp_path / "again.tar") == made.layers[0].diff_id.removeprefix("sha256:")


def test_the_stand_in_says_nothing_of_the_machine_it_was_made_on(made: Base) -> None:
    left_out = re.compile(
        r"\./(etc/(hostname|resolv\.conf|apt/sources\.list(\.d/.+)?|apt/apt\.conf\.d/99.*|dpkg/dpkg\.cfg\.d/.+)"
        r"|var/lib/apt/lists/[^/]+_.+|var/cache/apt/(.+\.bin|archives/.+\.deb)|var/log/.*(dpkg|term|history)\.log"
        r"|usr/share/(man|locale|info)/.+|dev/.+)"
    )
    with tarfile.open(made.layers[0].path) as tar:
        members = tar.getmembers()
        assert [member.name for member in members if left_out.fullmatch(member.name)] == []
        machine_id = [member for member in members if member.name == "./etc/machine-id"]
        assert all(member.size == 0 for member in machine_id)
        assert max(member.mtime for member in members) == stand_in.EPOCH
        assert {member.uname for member in members} <= {"", "root"}
        documents = {
            Path(member.name).name
            for member in members
            if re.match(r"\./usr/share/doc/.*/", member.name) and member.isreg()
        }
        assert documents == {"copyright"}


def test_what_azure_ml_asks_of_an_image_works_in_the_stand_in(client: docker.DockerClient, imported: str) -> None:
    command = "/bin/sh -c 'cp /bin/true /tmp/wrapper && /tmp/wrapper' && test -s /etc/ssl/certs/ca-certificates.crt"
    said = client.containers.run(imported, ["/bin/bash", "-c", f"{command} && echo ok"], remove=True)
    assert said == b"ok\n"


def test_the_dockerfiles_image_becomes_layers_that_are_the_same_after_a_new_build(
    client: docker.DockerClient, imported: str, made: Base, tmp_path: Path
) -> None:
    dockerfile = f"FROM {imported}\nCOPY packages.txt /tmp/packages.txt\nRUN rm /tmp/packages.txt && date +%Y > /year\n"
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        place = project(tmp_path / name, dockerfile)
        (place.root / "docker" / "packages.txt").chmod(0o600 if name == "one" else 0o666)
        found.append(base.get(place, client=client))
    first, second = found
    assert first.stand_ins == second.stand_ins == ()
    assert [layer.diff_id for layer in first.layers] == [layer.diff_id for layer in second.layers]
    assert [layer.comment for layer in first.layers] == [imported, base.COMMENT, base.COMMENT]
    for layer in first.layers:
        assert files.sha256(layer.path) == layer.diff_id.removeprefix("sha256:")
        assert layer.path.stat().st_size == layer.size
    with tarfile.open(first.layers[2].path) as tar:
        assert {"year", "tmp/.wh.packages.txt"} <= set(tar.getnames())
    assert base.get(settings.load(tmp_path / "one"), client=None) == first
    assert not [tag for image in client.images.list() for tag in image.tags if tag.startswith("parity-base:")]


def test_a_dockerfile_that_does_not_build_is_told_with_its_last_lines(
    client: docker.DockerClient, imported: str, tmp_path: Path
) -> None:
    place = project(tmp_path, f"FROM {imported}\nRUN echo the reason && exit 3\n")
    with pytest.raises(base.ImageError, match="the reason") as caught:
        base.get(place, client=client)
    assert "PARITY_OFFLINE=always" in (caught.value.command or "")
    assert not list((place.cache / "base").glob("image-*/base.json"))
