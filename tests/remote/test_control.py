"""The workspace itself, its computes, environments, datastores and models, as azureml-core's scripts use them."""

import filecmp
import os
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from workspaces import Rehearsal

# What a call raises, in words: refused(Workspace.get, "other")
REFUSED = """
def refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as problem:
        return str(problem)
    raise AssertionError("not refused")
"""


@pytest.fixture
def http(rehearsal: Rehearsal) -> httpx.Client:
    """A client that trusts the workspace's certificate, and has no token."""
    trust = ssl.create_default_context(cafile=rehearsal.variables()["REQUESTS_CA_BUNDLE"])
    return httpx.Client(base_url=rehearsal.url, verify=trust, trust_env=False)


def test_the_workspace_is_found_by_every_way_of_signing_in(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer("""
        import os
        from azureml.core.authentication import (
            InteractiveLoginAuthentication, MsiAuthentication, ServicePrincipalAuthentication)
        word = os.environ["MSI_ENDPOINT"].split("/")[-2]
        ways = [None, MsiAuthentication(), InteractiveLoginAuthentication(),
                ServicePrincipalAuthentication("adfs", "someone", word)]
        names = dict(subscription_id=ws.subscription_id, resource_group=ws.resource_group)
        print(json.dumps({
            "ids": [Workspace.get(ws.name, auth=way, **names)._workspace_id for way in ways],
            "lists": [sorted(Workspace.list(ws.subscription_id, resource_group=each)) for each in (None, "rehearsal")],
            "details": ws.get_details(), "services": ws.service_context._get_run_history_url(),
        }))
    """)
    assert len(set(found["ids"])) == 1
    assert all("rehearsal" in names for names in found["lists"])
    assert found["details"]["workspaceid"] == found["ids"][0]
    assert found["services"] == rehearsal.url


def test_other_names_are_not_found(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer(f"""{REFUSED}
names = dict(subscription_id=ws.subscription_id, resource_group=ws.resource_group)
print(json.dumps([
    refused(Workspace.get, "other", **names),
    refused(Workspace.get, ws.name, subscription_id=ws.subscription_id, resource_group="other"),
    refused(Workspace.get, ws.name, subscription_id="11111111-2222-4333-8444-555555555555", resource_group="rehearsal"),
    refused(ws.delete),
]))
""")
    assert ["Workspace not found." in each for each in found[:2]] == [True, True]
    assert "You don't have access to 11111111-2222-4333-8444-555555555555 subscription" in found[2]
    assert "rehearsal stop" in found[3]


def test_a_workspace_that_is_created_is_this_one_under_one_more_name(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer(
        f"""{REFUSED}
names = dict(name="tutorial-ws", subscription_id=ws.subscription_id, resource_group="tutorial-group")
more = dict(create_resource_group=True, location="East US")
made = Workspace.create(**names, **more)
made.write_config(path=".")
again = refused(Workspace.create, **names, **more)
same = Workspace.from_config(".")
own = dict(name=ws.name, subscription_id=ws.subscription_id, resource_group=ws.resource_group)
kept = Workspace.create(**own, **more, exist_ok=True)
listed = sorted(Workspace.list(ws.subscription_id))
made.delete()
print(json.dumps([
    [each._workspace_id for each in (ws, made, same, kept)], made.location, listed, again,
    refused(Workspace.create, **own, **more),
    refused(Workspace.create, **names, create_resource_group=True, location="the moon"),
    refused(Workspace.get, **names), list(same.compute_targets),
]))
""",
        cwd=rehearsal.folder({}),
    )
    ids, location, listed, again, own, moon, gone, computes = found
    assert len(set(ids)) == 1
    assert location == "eastus"
    assert {"rehearsal", "tutorial-ws"} <= set(listed)
    assert "'tutorial-ws' already exists" in again
    assert "'rehearsal' already exists" in own  # as on Azure; exist_ok=True gives it
    assert "Location not available" in moon
    assert "Workspace not found." in gone
    assert "cpu-cluster" in computes


def test_computes_are_made_changed_and_deleted(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer(f"""{REFUSED}
from azureml.core.compute import AmlCompute, ComputeTarget
configuration = AmlCompute.provisioning_configuration
first = ComputeTarget(ws, "CPU-cluster")
first.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=1)
made = ComputeTarget.create(ws, "gpus", configuration(
    vm_size="Standard_NC6s_v3", vm_priority="lowpriority", min_nodes=1, max_nodes=2,
    idle_seconds_before_scaledown=300, tags={{"a": "b"}}))
made.wait_for_completion(show_output=True)
status = ComputeTarget(ws, "gpus").get_status().serialize()
made.update(max_nodes=3)
answers = {{
    "first": [first.name, first.vm_size, first.scale_settings.serialize()],
    "status": status, "tags": made.tags, "updated": ComputeTarget(ws, "gpus").scale_settings.serialize(),
    "all": sorted(ws.compute_targets),
    "sizes": {{each["name"].upper(): each for each in AmlCompute.supported_vmsizes(ws)}},
    "size": refused(ComputeTarget.create, ws, "bad", configuration(vm_size="STANDARD_NC6_S_V3", max_nodes=1)),
    "name": refused(ComputeTarget.create, ws, "b_d", configuration(vm_size="STANDARD_NC6", max_nodes=1)),
    "other": refused(ComputeTarget.create, ws, "gpus", configuration(vm_size="STANDARD_NC6", max_nodes=1)),
}}
made.delete()
made.wait_for_completion(is_delete_operation=True)
answers["gone"] = refused(ComputeTarget, ws, "gpus")
print(json.dumps(answers))
""")
    assert found["first"] == [
        "cpu-cluster",
        "STANDARD_D2_V2",
        {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2400S"},
    ]
    assert found["status"]["vmSize"] == "STANDARD_NC6S_V3"
    assert found["status"]["vmPriority"] == "LowPriority"
    assert found["status"]["currentNodeCount"] == 1
    assert found["tags"] == {"a": "b"}
    assert found["updated"] == {"minNodeCount": 1, "maxNodeCount": 3, "nodeIdleTimeBeforeScaleDown": "PT300S"}
    assert {"cpu-cluster", "gpus"} <= set(found["all"])
    gpu = found["sizes"]["STANDARD_NC6S_V3"]
    assert (gpu["vCPUs"], gpu["gpus"], gpu["memoryGB"]) == (6, 1, 112)
    assert "STANDARD_NC6S_V3" in found["size"]  # the nearest name
    assert "no name of a cluster" in found["name"]
    assert "cannot be changed" in found["other"]
    assert "ComputeTargetNotFound" in found["gone"]


def test_a_version_of_an_environment_never_changes(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer(f"""{REFUSED}
from azureml.core import Environment

def environment(image):
    made = Environment("kept")
    made.docker.base_image = image
    made.python.user_managed_dependencies = True
    return made

versions = [environment(image).register(ws).version for image in ("x", "x", "y")]
first = Environment.get(ws, "kept", "1")
first.docker.base_image = "z"
Environment.label(ws, "kept", "1", ["good"])
print(json.dumps({{
    "versions": versions,
    "images": [Environment.get(ws, "kept", version).docker.base_image for version in (None, "1", "2")],
    "labels": [Environment.get(ws, "kept", label=label).version for label in ("good", "latest")],
    "listed": Environment.list(ws)["kept"].version,
    "changed": refused(first.register, ws),
    "curated": refused(Environment("AzureML-mine").register, ws),
    "missing": [refused(Environment.get, ws, "kept", "9"), refused(Environment.get, ws, "nope"),
                refused(Environment.get, ws, "kept", label="bad")],
}}))
""")
    assert found["versions"] == ["1", "1", "2"]  # the same content is the same version
    assert found["images"] == ["y", "x", "y"]
    assert found["labels"] == ["1", "2"]
    assert found["listed"] == "2"
    assert "Environment kept with version 1 is already registered and cannot be changed." in found["changed"]
    assert "Environment name can not start with the prefix AzureML." in found["curated"]
    assert all("Code: 404" in each for each in found["missing"])
    assert "its versions: 2, 1" in found["missing"][0]


def test_what_is_uploaded_to_a_datastore_lies_there_and_comes_back(rehearsal: Rehearsal, tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    source = rehearsal.folder(
        {
            "a b.txt": "spaces",
            "sub/ü#%25+&;=.txt": "odd",
            "empty": "",
            "large": block * 65 + b"end",  # past 64 MB the SDK sends blocks
        }
    )
    found = rehearsal.answer(f"""
from azureml.core import Datastore
datastore = ws.get_default_datastore()

def upload():
    datastore.upload({str(source)!r}, target_path="data", overwrite=False, show_progress=False)

upload()
with open({str(source)!r} + "/a b.txt", "w") as file:
    file.write("changed")
upload()
datastore.download({str(tmp_path / "first")!r}, prefix="data/a", show_progress=False)
changed, empty = {str(source / "a b.txt")!r}, {str(source / "empty")!r}
datastore.upload_files([changed], {str(source)!r}, "data", overwrite=True, show_progress=False)
datastore.upload_files([empty], target_path="few", show_progress=False)
count = datastore.download({str(tmp_path / "all")!r}, prefix="data", show_progress=False)
reference = Datastore.get(ws, "workspaceblobstore").path("data", "named").as_mount()
print(json.dumps([count, sorted(ws.datastores), str(reference), list(ws.datasets)]))
""")
    assert found == [4, ["workspaceblobstore"], "$AZUREML_DATAREFERENCE_named", []]
    assert (tmp_path / "first" / "data" / "a b.txt").read_text() == "spaces"  # what is there is skipped
    names = ["a b.txt", "sub/ü#%25+&;=.txt", "empty", "large"]
    stored = rehearsal.state / "datastores" / "workspaceblobstore"
    for place in (tmp_path / "all" / "data", stored / "data"):
        assert filecmp.cmpfiles(source, place, names, shallow=False) == (names, [], [])
    assert (stored / "few" / "empty").exists()


def test_storage_opens_only_with_its_own_signature(rehearsal: Rehearsal, http: httpx.Client) -> None:
    container, signature = rehearsal.answer("""
        datastore = ws.get_default_datastore()
        print(json.dumps([datastore.container_name, datastore.sas_token]))
    """)
    query = dict(parse_qsl(signature))
    late = {**query, "se": "2099-01-01T00:00:00Z"}
    headers = {"x-ms-blob-type": "BlockBlob"}

    def put(name: str, query: dict[str, str], store: str = container) -> httpx.Response:
        return http.put(f"/storage/{store}/{name}?{urlencode(query)}", content=b"x", headers=headers)

    assert put("fine", query).status_code == 201
    assert [put("no", wrong).status_code for wrong in ({}, late)] == [403, 403]
    assert put("no", query, store="other").status_code == 403
    for name in ("%2e%2e/evil", "a/%2e%2e/%2e%2e/evil", "a//b", "%2Fevil", "nul%00", "x" * 1025):
        assert put(name, query).status_code == 400, name
    (rehearsal.state / "datastores" / container / "link").symlink_to(rehearsal.state)  # as a job might
    assert http.get(f"/storage/{container}/link/key?{signature}").status_code == 403
    assert not list(rehearsal.state.rglob("evil"))


def test_nobody_gets_a_token_or_an_address_without_the_word(rehearsal: Rehearsal, http: httpx.Client) -> None:
    endpoint = rehearsal.variables()["MSI_ENDPOINT"]
    assert http.get(endpoint).json()["token_type"] == "Bearer"
    assert http.post("/msi/wrong/token").status_code == 401
    assert http.post("/adfs/oauth2/token", data={"client_secret": "wrong"}).status_code == 401
    assert http.get("/discovery/wrong").status_code == 404
    assert http.get("/subscriptions").status_code == 401
    token = http.post(endpoint).json()["access_token"]
    listed = http.get("/subscriptions", headers={"Authorization": f"Bearer {token}"})
    assert listed.status_code == 200
    assert listed.headers["x-aml-cluster"] == "parity-rehearsal"
    assert http.get("/subscriptions", headers={"Authorization": f"Bearer {token[:-2]}xx"}).status_code == 401


def test_models_are_registered_from_files_and_from_runs(rehearsal: Rehearsal) -> None:
    folder = rehearsal.folder({"one.pkl": "one", "net/weights": "w", "net/sub/more ü": "m"})
    found = rehearsal.answer(
        f"""{REFUSED}
from pathlib import Path
from azureml.core import Experiment, Model

def content(model, to):
    return [model.download(to), {{str(path): path.read_text() for path in Path(to).rglob("*") if path.is_file()}}]

files = Model.register(ws, "one.pkl", "files", tags={{"kind": "pickle"}})
tree = Model.register(ws, "net", "files")
run = Experiment(ws, "modelling").start_logging(snapshot_directory=None)
run.upload_file("outputs/model.pkl", "one.pkl")
trained = run.register_model("trained", model_path="outputs/model.pkl", model_framework="PyTorch", description="d")
answers = {{
    "versions": [files.version, tree.version, Model(ws, "files").version],
    "contents": [content(Model(ws, "files", version=1), "a"), content(tree, "b"), content(Model(ws, "trained"), "c")],
    "trained": [trained.run_id == run.id, trained.experiment_name, trained.model_framework, trained.description],
    "tagged": [each.id for each in Model.list(ws, tags=[["kind", "pickle"]])],
    "latest": [each.id for each in Model.list(ws, name="files", latest=True)],
    "of run": [each.id for each in Model.list(ws, run_id=run.id)],
    "nowhere": refused(run.register_model, "x", model_path="outputs/nope"),
}}
files.add_tags({{"more": "1"}})
tree.delete()
answers["after"] = [Model(ws, "files").tags, Model.register(ws, "one.pkl", "files").version]
answers["gone"] = refused(Model, ws, "files", version=2)
run.complete()
print(json.dumps(answers))
""",
        cwd=folder,
    )
    assert found["versions"] == [1, 2, 2]
    assert found["contents"] == [
        ["a/one.pkl", {"a/one.pkl": "one"}],
        ["b/net", {"b/net/weights": "w", "b/net/sub/more ü": "m"}],
        ["c/model.pkl", {"c/model.pkl": "one"}],
    ]
    assert found["trained"] == [True, "modelling", "PyTorch", "d"]
    assert found["tagged"] == ["files:1"]
    assert found["latest"] == ["files:2"]
    assert found["of run"] == ["trained:1"]
    assert "Could not locate the provided model_path outputs/nope" in found["nowhere"]
    assert found["after"] == [{"kind": "pickle", "more": "1"}, 3]  # a number is not given out twice
    assert "ModelNotFound" in found["gone"]


def test_what_is_not_served_is_named(rehearsal: Rehearsal) -> None:
    found = rehearsal.answer(f"""{REFUSED}
from azureml.core import Dataset, Datastore
from azureml.core.compute import AmlCompute
print(json.dumps([
    refused(ws.get_default_keyvault().get_secret, "x"),
    refused(AmlCompute.list_usages, ws),
    refused(Datastore.register_azure_blob_container, ws, "mine", "container", "account", account_key="a2V5"),
    refused(Dataset.get_by_name, ws, "mine"),
]))
""")
    assert "does not serve GET /credential/v2.0/" in found[0]
    assert "does not serve GET /subscriptions/" in found[1]
    assert "reaches no storage but its own" in found[2]
    assert "has no datasets" in found[3]


def test_a_killed_workspace_comes_back_with_all_that_it_acknowledged(another: Callable[..., Rehearsal]) -> None:
    own = another()
    write = """
        from azureml.core import Environment
        from azureml.core.compute import AmlCompute, ComputeTarget
        ComputeTarget(ws, "cpu-cluster").delete()
        ComputeTarget.create(ws, "kept", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1))
        environment = Environment("kept").register(ws)
        print(json.dumps([ws.discovery_url, environment.version]))
    """
    written = own.answer(write)
    os.kill(own.pid(), signal.SIGKILL)
    own.forget()
    read = """
        from azureml.core import Environment
        print(json.dumps([ws.discovery_url, Environment.get(ws, "kept").version, sorted(ws.compute_targets)]))
    """
    assert own.answer(read) == [*written, ["kept"]]
