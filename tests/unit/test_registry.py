import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_registry import FakeRegistry, basic, serving

from tools.errors import RegistryError
from tools.image import archive, blobs, manifests, registry
from tools.image.archive import Assembly, Layer
from tools.image.credentials import Credentials
from tools.image.manifests import Manifest
from tools.image.registry import Repository

SECRET = "very-secret"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BACKOFF", 0.01)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving() as running:
        yield running


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    made = []
    for name in ("base", "python", "torch"):
        content = name.encode() * 100_000
        path = tmp_path / name / "layer.tar"
        path.parent.mkdir()
        path.write_bytes(content)
        diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
        made.append(Layer(diff_id=diff_id, path=path, size=len(content), comment=f"{name}=1"))
    return archive.assemble(made, platform="linux-64", environment={}, labels={})


def push(fake: FakeRegistry, assembly: Assembly, login: Credentials | None = None) -> Manifest:
    with Repository(fake.address, "team/parity", login) as repository:
        return repository.push(assembly, "env-1")


def test_a_manifest_is_these_bytes() -> None:
    config = blobs.of(b"{}", "config")
    layer = blobs.Blob(digest=f"sha256:{'1' * 64}", size=5, source=b"", name="")
    assert manifests.manifest(config, [layer]) == (
        b'{"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",'
        b'"mediaType":"application/vnd.oci.image.config.v1+json","size":2},"layers":[{"digest":"sha256:'
        + b"1"
        * 64
        + b'","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":5}],'
        b'"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


def test_an_index_is_these_bytes() -> None:
    each = Manifest(digest="sha256:1", media_type=manifests.MANIFEST, size=5, image_id="sha256:2")
    assert manifests.index([(each, "arm64")]) == (
        b'{"manifests":[{"digest":"sha256:1","mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"platform":{"architecture":"arm64","os":"linux"},"size":5}],'
        b'"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'
    )


def test_the_config_in_the_registry_is_the_image_id(fake: FakeRegistry, assembly: Assembly) -> None:
    pushed = push(fake, assembly)
    assert pushed.image_id == assembly.id
    assert fake.blobs[assembly.id] == assembly.config
    kind, content = fake.manifests["env-1"]
    assert kind == manifests.MANIFEST
    assert pushed.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    named = [each["digest"] for each in json.loads(content)["layers"]]
    assert set(named) < set(fake.blobs)


def test_a_pushed_image_is_found_by_tag_and_by_digest(fake: FakeRegistry, assembly: Assembly) -> None:
    pushed = push(fake, assembly)
    with Repository(fake.address, "team/parity", None) as repository:
        assert repository.find("env-1") == repository.find(pushed.digest) == pushed
        assert repository.config(pushed) == json.loads(assembly.config)
        assert repository.find("env-2") is None


def test_what_the_registry_has_is_not_sent_again(fake: FakeRegistry, assembly: Assembly) -> None:
    first = push(fake, assembly)
    fake.requests.clear()
    assert push(fake, assembly) == first
    assert fake.count("POST") == 0
    assert fake.count("PUT", "/blobs/") == 0


@pytest.mark.parametrize("fault", ["drop", (500, {}, b""), (503, {}, b""), (429, {}, b"")])
@pytest.mark.parametrize("where", ["HEAD", "POST", "PUT"])
def test_a_broken_request_is_made_again(fake: FakeRegistry, assembly: Assembly, fault: str, where: str) -> None:
    failed: set[str] = set()

    def once(method: str, path: str) -> str | None:
        if method != where or len(failed) == 2:
            return None
        failed.add(f"{path}{len(failed)}")
        return fault

    fake.answer = once
    assert push(fake, assembly).image_id == assembly.id
    assert len(failed) == 2
    assert "env-1" in fake.manifests


def test_a_registry_that_stays_broken_is_named_with_what_was_being_sent(fake: FakeRegistry, assembly: Assembly) -> None:
    torch = blobs.compressed(assembly.layers[2])
    fake.answer = lambda method, path: (502, {}, b"") if method == "PUT" and torch.digest in path else None
    with pytest.raises(RegistryError) as caught:
        push(fake, assembly)
    for part in (fake.address, "502", "torch=1", blobs.files.human(torch.size), f"{registry.ATTEMPTS} times"):
        assert part in str(caught.value)
    assert fake.count("PUT", torch.digest) == registry.ATTEMPTS
    assert not fake.manifests


def test_a_registry_that_is_not_there_is_named(assembly: Assembly) -> None:
    with serving() as gone:
        pass
    with pytest.raises(RegistryError, match=gone.address):
        push(gone, assembly)


def test_a_registry_says_itself_when_to_come_back(fake: FakeRegistry, assembly: Assembly) -> None:
    answers = [(429, {"Retry-After": "1"}, b"")]
    fake.answer = lambda method, path: answers.pop() if answers and method == "PUT" else None
    start = time.monotonic()
    push(fake, assembly)
    assert time.monotonic() - start >= 1


def test_after_one_failure_nothing_more_is_sent(fake: FakeRegistry, assembly: Assembly) -> None:
    fake.answer = lambda method, path: (400, {}, b"") if method == "PUT" else None
    with pytest.raises(RegistryError, match="400"):
        push(fake, assembly)
    assert not fake.blobs
    assert not fake.manifests


def test_without_a_login_the_error_says_which_one_to_do(fake: FakeRegistry, assembly: Assembly) -> None:
    fake.login = "basic"
    with pytest.raises(RegistryError) as caught:
        push(fake, assembly)
    assert "asks for a login (401" in caught.value.found
    assert caught.value.command == f"docker login {fake.address}"


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_user_and_password_open_the_registry(fake: FakeRegistry, assembly: Assembly, kind: str) -> None:
    fake.login, fake.secrets = kind, {basic("someone", SECRET)}
    assert push(fake, assembly, Credentials(username="someone", password=SECRET)).image_id == assembly.id


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_a_wrong_password_is_refused_and_not_shown(fake: FakeRegistry, assembly: Assembly, kind: str) -> None:
    fake.login, fake.secrets = kind, {basic("someone", "another")}
    with pytest.raises(RegistryError) as caught:
        push(fake, assembly, Credentials(username="someone", password=SECRET))
    assert "refuses the login" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_identity_token_of_az_acr_login_opens_the_registry(fake: FakeRegistry, assembly: Assembly) -> None:
    fake.login, fake.secrets = "token", {SECRET}
    assert push(fake, assembly, Credentials(identity_token=SECRET)).image_id == assembly.id
    assert fake.tokens == 1


def test_a_token_that_runs_out_midway_is_renewed(fake: FakeRegistry, assembly: Assembly) -> None:
    fake.login, fake.secrets = "token", {SECRET}

    def run_out(method: str, path: str) -> None:
        if method == "PUT" and fake.tokens == 1:
            fake.tokens = 2  # the registry no longer takes token 1

    fake.answer = run_out
    assert push(fake, assembly, Credentials(identity_token=SECRET)).image_id == assembly.id
    assert fake.tokens == 3


def test_a_login_without_the_right_to_push_is_told_so(fake: FakeRegistry, assembly: Assembly) -> None:
    denied = json.dumps({"errors": [{"code": "DENIED", "message": "address 1.2.3.4 is not allowed"}]}).encode()
    fake.answer = lambda method, path: (403, {}, denied) if method == "POST" else None
    with pytest.raises(RegistryError, match=r"403: address 1\.2\.3\.4 is not allowed") as caught:
        push(fake, assembly, Credentials(username="someone", password=SECRET))
    assert caught.value.command == f"docker login {fake.address}"
    assert fake.count("POST") <= registry.UPLOADS


def test_a_login_stays_with_its_registry(fake: FakeRegistry, assembly: Assembly) -> None:
    with serving() as storage:
        seen: list[str] = []
        respond = storage.respond
        storage.respond = lambda *request: (seen.append(request[2].get("authorization", "")), respond(*request))[1]  # type: ignore[method-assign]
        fake.login, fake.secrets = "basic", {basic("someone", SECRET)}
        place = {"Location": f"http://{storage.address}/v2/x/blobs/uploads/1"}
        fake.answer = lambda method, path: (202, place, b"") if method == "POST" else None
        push(fake, assembly, Credentials(username="someone", password=SECRET))
        assert len(storage.blobs) == 4
    assert set(seen) == {""}


@pytest.mark.parametrize("where", ["Location", "realm"])
def test_nothing_is_sent_to_an_address_that_is_not_encrypted(
    fake: FakeRegistry, assembly: Assembly, where: str
) -> None:
    place = {"Location": "http://storage.example/x"}
    realm = {"WWW-Authenticate": 'Bearer realm="http://tokens.example/x"'}
    answer = (202, place, b"") if where == "Location" else (401, realm, b"")
    fake.answer = lambda method, path: answer if method == "POST" else None
    with pytest.raises(RegistryError, match="not encrypted"):
        push(fake, assembly, Credentials(username="someone", password=SECRET))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:5000", True),
        ("localhost", True),
        ("[::1]:5000", True),
        ("myacr.azurecr.io", False),
        ("10.0.0.1", False),
    ],
)
def test_only_this_machine_is_spoken_to_without_encryption(host: str, expected: bool) -> None:
    assert registry.loopback(host) is expected
