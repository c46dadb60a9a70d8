"""Pushing to a real registry, by the engine and without one; what was pushed, on an engine that has nothing."""

import base64
import hashlib
import io
import json
import random
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
import services
from projects import Project
from services import Proxy

from tools.environment.lock import Lock
from tools.errors import RegistryError, SettingsError
from tools.image import archive, blobs, push, registry, store
from tools.image.archive import Assembly, Layer
from tools.image.base import Base
from tools.image.build import Plan
from tools.image.push import Pushed
from tools.settings import Image, Settings

FINGERPRINT = "f" * 64
MOVES = ("POST", "PATCH", "PUT")


def layer(folder: Path, name: str, content: bytes) -> Layer:
    path = folder / name / "layer.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(f"opt/{name}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    diff_id = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return Layer(diff_id=diff_id, path=path, size=path.stat().st_size, comment=name)


def assembled(layers: list[Layer], platform: str = "linux-64", **labels: str) -> Assembly:
    return archive.assemble(
        layers, platform=platform, environment={}, labels={store.FINGERPRINT: FINGERPRINT, **labels}
    )


@pytest.fixture
def layers(tmp_path: Path) -> list[Layer]:
    """Content that no engine or registry has seen; the second layer has several gzip members."""
    noise = random.Random(str(tmp_path)).randbytes
    sizes = {"base": 1000, "torch": 3 * blobs.BLOCK, "tqdm": 100_000}
    return [layer(tmp_path, name, noise(size)) for name, size in sizes.items()]


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with services.registry(tmp_path_factory.mktemp("registry") / "r") as address:
        yield address


@pytest.fixture
def proxy(docker_registry: str) -> Iterator[Proxy]:
    with services.proxy(docker_registry) as running:
        yield running


@pytest.fixture(scope="module")
def other_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    with services.empty_engine(tmp_path_factory.mktemp("engine") / "e") as client:
        yield client


@pytest.fixture
def loaded(client: docker.DockerClient) -> Iterator[Callable[[Assembly], str]]:
    """Puts an image into the engine, and takes it out after the test."""
    ids = set()

    def load(assembly: Assembly) -> str:
        store.load(client, assembly)
        ids.add(assembly.id)
        return assembly.id

    yield load
    for image_id in ids:
        client.api.remove_image(image_id, force=True)


def plan(folder: Path, address: str, name: str, platform: str = "linux-64") -> Plan:
    settings = Settings(root=folder, image=Image(name=name, registry=f"{address}/team"))
    lock = Lock(path=folder, sha256="", packages=(), platforms=(platform,), stand_ins=(), spec=None)
    base = Base(layers=(), stand_ins=())
    return Plan(
        settings=settings,
        platform=platform,
        lock=lock,
        packages=(),
        python=None,
        base=base,
        fingerprint=FINGERPRINT,
    )


def log_in(config: Path, address: str) -> str:
    """As `docker login` does; returns what it leaves."""
    secret = base64.b64encode(f"{services.USER}:{services.PASSWORD}".encode()).decode()
    (config / "config.json").write_text(json.dumps({"auths": {address: {"auth": secret}}}))
    return secret


Way = Callable[[Plan, Assembly], Pushed]


@pytest.fixture(params=["direct", "from engine"])
def way(request: pytest.FixtureRequest, client: docker.DockerClient, loaded: Callable[[Assembly], str]) -> Way:
    if request.param == "direct":
        return lambda planned, assembly: push.direct(planned, lambda: assembly)
    return lambda planned, assembly: push.from_engine(planned, loaded(assembly), client=client)


def test_what_was_pushed_is_pulled_by_digest_with_the_same_image_id(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], way: Way, other_engine: docker.DockerClient
) -> None:
    assembly = assembled(layers)
    pushed = way(plan(tmp_path, proxy.address, "pulled"), assembly)
    name, _, digest = pushed.reference.partition("@")
    assert name == f"{proxy.address}/team/pulled"
    assert digest.startswith("sha256:")
    assert pushed.image_id == assembly.id
    image = other_engine.images.pull(pushed.reference)
    assert image.id == assembly.id
    assert image.labels[store.FINGERPRINT] == FINGERPRINT
    other_engine.api.remove_image(assembly.id, force=True)


def test_the_second_push_moves_no_blob(tmp_path: Path, proxy: Proxy, layers: list[Layer], way: Way) -> None:
    planned, assembly = plan(tmp_path, proxy.address, "twice"), assembled(layers)
    first = way(planned, assembly)
    assert proxy.count(*MOVES) > 0
    proxy.requests.clear()
    start = time.monotonic()
    assert way(planned, assembly) == first
    assert time.monotonic() - start < 2
    assert [(method, path) for method, path in proxy.requests if method in MOVES and "/blobs/" in path] == []


def test_an_image_that_is_there_is_not_even_made(tmp_path: Path, proxy: Proxy, layers: list[Layer]) -> None:
    planned = plan(tmp_path, proxy.address, "there")
    first = push.direct(planned, lambda: assembled(layers))

    def never() -> Assembly:
        raise AssertionError("made")

    assert push.direct(planned, never) == first
    other = replace(planned, fingerprint="e" * 64)
    with pytest.raises(AssertionError, match="made"):
        push.direct(other, never)


def test_of_a_changed_image_only_the_changed_layer_is_sent(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], way: Way
) -> None:
    way(plan(tmp_path, proxy.address, "bumped"), assembled(layers))
    proxy.requests.clear()
    layers[1] = layer(tmp_path, "numpy", random.Random(str(tmp_path)).randbytes(5000))
    bumped = replace(plan(tmp_path, proxy.address, "bumped"), fingerprint="e" * 64)
    way(bumped, assembled(layers, **{store.FINGERPRINT: "e" * 64}))
    assert proxy.count("POST") == 2  # the layer and the config


def test_where_the_image_was_pushed_to_is_recorded(tmp_path: Path, proxy: Proxy, layers: list[Layer], way: Way) -> None:
    planned, assembly = plan(tmp_path, proxy.address, "recorded"), assembled(layers)
    assert push.recorded(planned.settings, assembly.id) is None
    pushed = way(planned, assembly)
    assert push.recorded(planned.settings, assembly.id) == pushed
    elsewhere = plan(tmp_path, proxy.address, "elsewhere").settings
    assert push.recorded(elsewhere, assembly.id) is None


@pytest.mark.parametrize("fault", ["drop", "500"])
def test_a_registry_that_breaks_off_midway_is_tried_again(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], way: Way, fault: str
) -> None:
    broken: list[str] = []

    def once_per_upload(method: str, path: str) -> str | None:
        if method in ("PUT", "PATCH") and "/blobs/" in path and len(broken) < 2:
            broken.append(path)
            return fault
        return None

    proxy.fault = once_per_upload
    assembly = assembled(layers)
    assert way(plan(tmp_path, proxy.address, f"broken-{fault}"), assembly).image_id == assembly.id
    assert len(broken) == 2


@pytest.mark.parametrize("fault", ["drop", "500"])
def test_a_registry_that_stays_broken_is_reported_by_name(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "BACKOFF", 0.05)
    proxy.fault = lambda method, path: fault if method == "PUT" and "/blobs/" in path else None
    with pytest.raises(
        RegistryError, match=rf"^{proxy.address}: .*{registry.ATTEMPTS} times, sending (base|torch|tqdm)"
    ):
        push.direct(plan(tmp_path, proxy.address, "dead"), lambda: assembled(layers))


def test_a_manifest_that_the_engine_gives_up_on_is_tried_again(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], client: docker.DockerClient, loaded: Callable[[Assembly], str]
) -> None:
    broken: list[str] = []

    def once(method: str, path: str) -> str | None:
        if method == "PUT" and "/manifests/" in path and not broken:
            broken.append(path)
            return "500"
        return None

    proxy.fault = once
    assembly = assembled(layers)
    pushed = push.from_engine(plan(tmp_path, proxy.address, "manifest"), loaded(assembly), client=client)
    assert pushed.image_id == assembly.id
    assert broken


def test_a_registry_that_stays_broken_for_the_engine_is_reported_by_name(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], client: docker.DockerClient, loaded: Callable[[Assembly], str]
) -> None:
    proxy.fault = lambda method, path: "500" if method == "PUT" and "/manifests/" in path else None
    with pytest.raises(RegistryError, match=f"^{proxy.address}: the engine could not push team/dead-engine") as caught:
        push.from_engine(plan(tmp_path, proxy.address, "dead-engine"), loaded(assembled(layers)), client=client)
    assert "500" in caught.value.found


def test_the_engine_uses_dockers_login(
    tmp_path: Path,
    layers: list[Layer],
    client: docker.DockerClient,
    loaded: Callable[[Assembly], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    image_id = loaded(assembled(layers))
    with services.registry(tmp_path / "r", with_login=True) as address:
        planned = plan(tmp_path, address, "private")
        with pytest.raises(RegistryError, match="asks for a login") as caught:
            push.from_engine(planned, image_id, client=client)
        assert caught.value.command == f"docker login {address}"
        log_in(tmp_path, address)
        assert push.from_engine(planned, image_id, client=client).image_id == image_id


@pytest.mark.parametrize("what", ["layer.tar", "layer.tar.gz"])
def test_what_is_damaged_in_the_cache_is_made_again_and_never_sent(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], what: str, other_engine: docker.DockerClient
) -> None:
    assembly = assembled(layers)
    sound = layers[1].path.read_bytes()
    if what == "layer.tar.gz":
        blobs.compressed(layers[1])
    damaged = layers[1].path.with_name(what)
    content = bytearray(damaged.read_bytes())
    content[-2000] ^= 1
    damaged.write_bytes(content)

    def assemble() -> Assembly:
        layers[1].path.parent.mkdir(exist_ok=True)
        if not layers[1].path.exists():
            layers[1].path.write_bytes(sound)
        return assembly

    pushed = push.direct(plan(tmp_path, proxy.address, f"damaged-{what}"), assemble)
    assert other_engine.images.pull(pushed.reference).id == assembly.id
    other_engine.api.remove_image(assembly.id, force=True)


def test_one_index_leads_each_platform_to_its_image(
    tmp_path: Path, proxy: Proxy, layers: list[Layer], other_engine: docker.DockerClient
) -> None:
    images = {platform: assembled(layers, platform) for platform in ("linux-aarch64", "linux-64")}
    pushed = []
    for platform, assembly in images.items():
        planned = replace(
            plan(tmp_path, proxy.address, "both", platform), fingerprint=hashlib.sha256(platform.encode()).hexdigest()
        )
        pushed.append(push.direct(planned, lambda assembly=assembly: assembly))
    settings = plan(tmp_path, proxy.address, "both").settings
    reference = push.index(settings, pushed)
    assert push.index(settings, pushed[::-1]) == reference
    for platform, architecture in (("linux-64", "amd64"), ("linux-aarch64", "arm64")):
        image = other_engine.images.pull(reference, platform=f"linux/{architecture}")
        assert (image.id, image.attrs["Architecture"]) == (images[platform].id, architecture)
        other_engine.api.remove_image(image.id, force=True)


def test_without_a_registry_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"parity\.toml: image\.registry is not set"):
        push.address(Settings(root=tmp_path))


def test_by_hand(
    tmp_path: Path,
    project: Callable[..., Project],
    image: str,
    client: docker.DockerClient,
    other_engine: docker.DockerClient,
) -> None:
    """The verb, with the real image, on a registry that asks for a login."""
    with services.registry(tmp_path / "r", with_login=True) as upstream, services.proxy(upstream) as proxy:
        parity = project({}, settings=f'[image]\nregistry = "{proxy.address}"\n').parity
        config = tmp_path / "docker-config"
        config.mkdir()

        done = parity("push", DOCKER_CONFIG=str(config), HOME=str(tmp_path))
        assert done.returncode == RegistryError.exit_code
        assert done.stdout == ""
        assert f"{proxy.address} asks for a login (401" in done.stderr
        assert f"docker login {proxy.address}" in done.stderr

        secret = log_in(config, proxy.address)
        done = parity("-v", "push", "--without-engine", DOCKER_CONFIG=str(config))
        assert done.returncode == 0, done.stderr
        reference = done.stdout.strip()
        assert reference.startswith(f"{proxy.address}/parity@sha256:")
        assert f"docker push {proxy.address}/{image}" in done.stderr
        for hidden in (services.PASSWORD, secret):
            assert hidden not in done.stderr

        proxy.requests.clear()
        start = time.monotonic()
        done = parity("push", "--json", DOCKER_CONFIG=str(config))
        seconds = time.monotonic() - start
        assert json.loads(done.stdout)["reference"] == reference
        assert proxy.count(*MOVES) == 0
        assert seconds < 2

        login = {"username": services.USER, "password": services.PASSWORD}
        pulled = other_engine.images.pull(reference, auth_config=login)
        assert pulled.id == client.images.get(image).id
