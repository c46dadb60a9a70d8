"""Breaks of parity, each planted in a real run, and each named by the comparison with a run that has none."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from projects import ROOT, SETTINGS, SMALL, Project

from tools.runs import container as containers
from tools.runs.record import Record
from tools.runs.spec import RunSpec
from tools.targets import local

SCRIPT = """
import json, os, random, sys, time
import helper
clock = os.path.exists("clock")
random.seed(time.time_ns() if clock else 0)
import torch
threads = int(os.environ.get("TORCH_THREADS") or 2)
torch.set_num_threads(threads)
data = sys.argv[sys.argv.index("--data") + 1]
numbers = open(data + "/numbers").read().split() if os.path.exists(data + "/numbers") else []
with open("outputs/metrics.jsonl", "w") as file:
    for step in range(5):
        value = random.random() + len(numbers)
        file.write(json.dumps({"name": "loss", "step": step, "value": value, "time": time.time()}) + "\\n")
"""
# Of torch's size nothing matters here but what is seen of it.
TORCH = """
from types import SimpleNamespace as N
__version__, threads = "9.9", 1
version, cuda = N(cuda=None), N(is_initialized=lambda: False)
__config__, backends = N(show=lambda: "built"), N(mkldnn=N(enabled=True))
def set_num_threads(number):
    global threads
    threads = number
get_num_threads, get_num_interop_threads = lambda: threads, lambda: 2
get_default_dtype, are_deterministic_algorithms_enabled = lambda: "float32", lambda: False
"""
FILES = {"train.py": SCRIPT, "helper.py": "", "torch.py": TORCH}
VARIABLES = '[run.environment_variables]\nGREETING = "{}"\n'


def write(root: Path, *, greeting: str = "hello", command: str = "", more: str = "") -> None:
    text = f'{SETTINGS}[run]\ncommand = "python train.py --data {{data}}{command}"\n[data]\ndataset = "none"\n{more}'
    (root / "parity.toml").write_text(text + VARIABLES.format(greeting))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small: Project) -> tuple[Project, str]:
    """A project and the id of its run."""
    root = tmp_path_factory.mktemp("parity") / "project"
    (root / "environments").mkdir(parents=True)
    (root / "environments" / "small.yml").write_text(SMALL)
    for name in ("docker", ".parity"):
        (root / name).symlink_to(ROOT / name)
    (root / "data").mkdir()
    (root / "data" / "numbers").write_text("1 2 3\n")
    (root / "trainer").mkdir()
    for name, content in FILES.items():
        (root / "trainer" / name).write_text(content)
    write(root)
    made = Project(root=root)
    done = made.parity("run-local")
    assert done.returncode == 0, done.stderr
    return made, done.stdout.strip()


@pytest.fixture
def project(base: tuple[Project, str], tmp_path: Path) -> Project:
    """A copy of that project, to be changed; its runs lie beside the first one's."""
    made, _ = base
    shutil.copytree(made.root, tmp_path / "project", symlinks=True, ignore=shutil.ignore_patterns("runs"))
    (tmp_path / "project" / "runs").symlink_to(made.root / "runs")
    return Project(root=tmp_path / "project")


def compare(project: Project, one: str, two: str) -> dict:
    done = project.parity("compare", one, two, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == {"parity": 0, "no parity": 1, "cannot tell": 2}[told["verdict"]]
    return told


def ran(project: Project, *arguments: str) -> str:
    done = project.parity("run-local", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_same_again_is_parity(base: tuple[Project, str], project: Project) -> None:
    _, first = base
    told = compare(project, first, ran(project))
    assert told["verdict"] == "parity", told["sentence"]
    assert "5 metric points are identical" in told["sentence"]


def ignored_file(root: Path) -> None:
    (root / "trainer" / "train.py").write_text(SCRIPT.replace("import helper\n", ""))
    (root / "trainer" / ".amlignore").write_text("helper.py\n")


def another_image(root: Path) -> None:
    (root / "environments" / "small.yml").write_text(SMALL.replace(", markupsafe", ""))


def another_data_set(root: Path) -> None:
    (root / "data" / "numbers").write_text("1 2 3 4\n")


def clock(root: Path) -> None:
    (root / "trainer" / "clock").touch()


BREAKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file that .amlignore drops": (ignored_file, "file helper.py"),
    "another image": (another_image, "image"),
    "a changed variable": (lambda root: write(root, greeting="good bye"), "variable GREETING"),
    "shm": (lambda root: write(root, more='[resources]\nshm_size = "64m"\n'), "shared memory"),
    "another command": (lambda root: write(root, command=" --more"), "command"),
    "another data set": (another_data_set, "input data"),
}


@pytest.mark.parametrize("planted", BREAKS)
def test_a_break_that_a_user_can_make_is_named(base: tuple[Project, str], project: Project, planted: str) -> None:
    _, first = base
    change, subject = BREAKS[planted]
    change(project.root)
    told = compare(project, first, ran(project))
    assert told["verdict"] == "no parity"
    assert subject in told["sentence"], told["sentence"]


def test_a_seed_of_the_clock_is_known_by_two_runs_of_the_same(base: tuple[Project, str], project: Project) -> None:
    clock(project.root)
    told = compare(project, ran(project), ran(project))
    assert told["verdict"] == "no parity"
    assert "loss" in told["sentence"]
    assert "the clock or on a seed" in told["sentence"]
    assert [each for each in told["differences"] if each["class"] == "breaks parity"] == []


@pytest.fixture
def spec(project: Project, client: docker.DockerClient) -> RunSpec:
    return project.spec(client)


Change = Callable[[containers.Plan], containers.Plan]


@pytest.fixture
def run(
    client: docker.DockerClient, project: Project, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Record]:
    """Runs the spec in a container that an engine, or someone who has it, made otherwise than the record says."""

    def changed(change: Change) -> Record:
        create = containers.create
        monkeypatch.setattr(containers, "create", lambda client, plan: create(client, change(plan)))
        return local.run(client, spec, project.root / "runs", show=lambda output: None)

    return changed


def options(**more: object) -> Change:
    return lambda plan: replace(plan, options={**plan.options, **more})


def variables(**more: str) -> Change:
    return lambda plan: replace(plan, variables={**plan.variables, **more})


def test_another_user_is_named(base: tuple[Project, str], project: Project, run: Callable[..., Record]) -> None:
    someone = "chmod -R a+rwX . && exec setpriv --reuid=1234 --regid=1234 --clear-groups"
    told = compare(project, base[1], run(lambda plan: replace(plan, command=f"{someone} {plan.command}")).id)
    assert told["verdict"] == "no parity"
    assert "uid" in told["sentence"], told["sentence"]


@pytest.mark.parametrize(
    ("change", "name", "weight"),
    [
        (options(cpuset_cpus="0"), "usable_processors", "may change numbers"),
        (variables(OMP_NUM_THREADS="1"), "OMP_NUM_THREADS", "may change numbers"),
        (variables(TORCH_THREADS="1"), "threads", "may change numbers"),
        (options(shm_size=32 << 20), "shm_bytes", "breaks parity"),
        (options(mounts=[]), "data", "breaks parity"),
    ],
    ids=["processors", "threads", "torch threads", "shm as seen", "a missing input"],
)
def test_what_only_the_container_knows_is_named(
    base: tuple[Project, str], project: Project, run: Callable[..., Record], change: Change, name: str, weight: str
) -> None:
    told = compare(project, base[1], run(change).id)
    found = [each for each in told["differences"] if each["name"] == name and each["class"] == weight]
    assert found, told["differences"]
    assert told["verdict"] == ("no parity" if weight == "breaks parity" else "parity")


def test_a_package_that_someone_changed_in_the_image_is_named(
    base: tuple[Project, str],
    project: Project,
    client: docker.DockerClient,
    spec: RunSpec,
    run: Callable[..., Record],
) -> None:
    inside = "/opt/env/lib/python3.11/site-packages"
    changer = client.containers.create(
        spec.image.id, ["sh", "-c", f"cd {inside} && mv tqdm-*.dist-info tqdm-0.dist-info"]
    )
    changer.start()
    changer.wait()
    mutated = changer.commit()
    changer.remove()
    try:
        record = run(lambda plan: replace(plan, image=mutated.id))
        told = compare(project, base[1], record.id)
    finally:
        client.images.remove(mutated.id, force=True)
    assert told["verdict"] == "no parity"
    assert "tqdm" in told["sentence"], told["sentence"]
