"""The trainer of this repository, in its own container, on its own data set."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from lab import TEST, TRAIN, Lab
from projects import ROOT, Project


def clone(root: Path, *names: str) -> Project:
    """These parts of this checkout, with records of their own."""
    (ROOT / "data").mkdir(exist_ok=True)
    for name in ("environments", "docker", "trainer", ".parity", *names):
        (root / name).symlink_to(ROOT / name)
    return Project(root=root)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return clone(tmp_path_factory.mktemp("checkout"), "data", "parity.toml")


@pytest.fixture(scope="module")
def lab(checkout: Project, client: docker.DockerClient) -> Iterator[Lab]:
    built = checkout.parity("image")
    assert built.returncode == 0, built.stderr
    assert checkout.parity("data").returncode == 0
    made = Lab(client, built.stdout.strip())
    yield made
    made.container.remove(force=True)


def test_the_tutorials_run_prints_its_twelve_lines_and_learns(checkout: Project) -> None:
    done = checkout.parity("run-local")
    assert done.returncode == 0, done.stderr
    folder = checkout.folder(done.stdout)
    lines = (folder / "stdout.log").read_text().splitlines()
    expected = [(epoch, batch) for epoch in (1, 2) for batch in range(2000, 12001, 2000)]
    assert len(lines) == 14
    for line, (epoch, batch) in zip(lines, expected, strict=False):
        assert re.fullmatch(rf"epoch={epoch}, batch={batch:5}: loss \d\.\d\d", line)
    assert lines[12] == "Finished Training"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    shown = [float(line.rpartition(" ")[2]) for line in lines[:12]]
    assert [round(point["value"], 2) for point in metrics if point["name"] == "loss"] == shown
    assert shown[-1] < shown[0] / 5
    (accuracy,) = (point["value"] for point in metrics if "accuracy" in point["name"])
    assert accuracy > 0.93
    assert (folder / "outputs" / "model.pt").stat().st_size > 62_006 * 4


def test_two_runs_print_the_same_losses_and_another_seed_others(lab: Lab) -> None:
    options = ["--epochs", "1", "--batch-size", "40", "--log-every", "10", "--resume", "never"]
    first, again, other = (lab.train("/tmp/seeds", *options, *more) for more in ([], [], ["--seed", "7"]))
    assert len(first.lines) == 10
    assert first.lines == again.lines
    assert first.lines != other.lines


# --- several processes


def test_an_epoch_has_each_image_once_in_the_order_of_distributed_sampler(lab: Lab) -> None:
    lab.script("""
        import random, torch
        from torch.utils.data import DistributedSampler
        import data
        from processes import Group

        random.seed(1)
        for _ in range(200):
            count, size, seed, epoch = (random.randint(1, most) for most in (300, 9, 5, 5))
            batch = random.randint(size, 40)
            groups = []
            for rank in range(size):
                group = Group.__new__(Group)
                group.rank, group.size = rank, size
                groups.append(group)
            order = data.order(count, seed, epoch)
            shares = [[group.share(chosen).tolist() for chosen in order.split(batch)] for group in groups]
            flat = [[number for share in each for number in share] for each in shares]
            assert sorted(number for each in flat for number in each) == list(range(count))
            assert data.order(count, seed, epoch + 1).tolist() != order.tolist() or count < 5
            if count % size == 0 and batch % size == 0:
                for rank, found in enumerate(flat):
                    sampler = DistributedSampler(range(count), size, rank, seed=seed)
                    sampler.set_epoch(epoch)
                    assert found == list(sampler)
    """)


def test_several_processes_take_the_steps_of_one_and_learn_as_much(lab: Lab) -> None:
    options = ["--batch-size", "28", "--epochs", "3", "--log-every", "1", "--learning-rate", "0.02"]
    found = {size: lab.train(f"/tmp/size-{size}", *options, processes=size) for size in (1, 2, 4)}
    assert [done.code for done in found.values()] == [0] * 3, found
    points = {size: lab.metrics(f"/tmp/size-{size}") for size in found}
    accuracy = {size: lab.metrics(f"/tmp/size-{size}", "test_accuracy")[0][1] for size in found}
    assert len(points[1]) == 3 * -(-TRAIN // 28)
    assert accuracy[1] > 0.7
    for size in (2, 4):
        assert "a global batch of 28 images" in found[size].output
        assert [step for step, _ in points[size]] == [step for step, _ in points[1]]
        # rounding, which differs, grows as training goes on: measured, from 4e-7 to 1e-4 after 60 steps, 1e-1 after 150
        for (step, one), (_, several) in list(zip(points[1], points[size], strict=True))[:25]:
            assert several == pytest.approx(one, abs=1e-5), (size, step)
        assert abs(accuracy[size] - accuracy[1]) <= 0.05, accuracy


def test_a_last_batch_that_cannot_be_shared_evenly_counts_each_image_once(lab: Lab) -> None:
    # 4,000 images in batches of 1,333, which three processes cannot share evenly, and of the last image two have none
    options = ["--batch-size", "1333", "--epochs", "2", "--log-every", "1", "--learning-rate", "0.01"]
    one, three = (lab.train(f"/tmp/uneven-{size}", *options, processes=size) for size in (1, 3))
    assert (one.code, three.code) == (0, 0), three.output
    points = [lab.metrics(f"/tmp/uneven-{size}") for size in (1, 3)]
    assert len(points[0]) == 2 * 4
    for (_, alone), (step, shared) in zip(*points, strict=True):
        assert shared == pytest.approx(alone, abs=1e-5), step


def test_a_process_that_does_not_answer_is_named(lab: Lab) -> None:
    seen = lab.run(
        "python",
        "-c",
        """
import os, pathlib, signal, subprocess, sys, time
command = ["torchrun", "--standalone", "--nproc-per-node=3", "/trainer/train.py", "--data-path", "/small",
           "--output-dir", "out", "--epochs", "100", "--peer-timeout", "8", "--log-every", "20", "--batch-size", "6"]
stopped = None
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
for line in process.stdout:
    print(line, end="")
    if "batch=   40" in line:
        for each in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if b"RANK=1\\0" in each.joinpath("environ").read_bytes().replace(b"LOCAL_RANK", b"LOCAL"):
                    os.kill(int(each.name), signal.SIGSTOP)
                    stopped = int(each.name)
            except OSError:
                pass
    if line.startswith("error: ") and stopped:
        time.sleep(1)  # torchrun sees the others end first
        os.kill(stopped, signal.SIGKILL)
        stopped = None
process.wait()
""",
    )
    errors = [line for line in seen.output.splitlines() if line.startswith("error: ")]
    assert errors, seen.output
    assert all("no answer from rank 1;" in line for line in errors), errors
    assert "waited up to 8 s" in errors[0]
    assert "exitcode  : 6" in seen.output


# --- checkpoints

KILLS = """
import json, os, pathlib, random, signal, subprocess, sys, time
random.seed(int(sys.argv[1]))
command, outputs = sys.argv[2:], pathlib.Path("/tmp/killed")
said, codes = [], []
for number in range(21):
    process = subprocess.Popen(["python", *command], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline()]  # of the first attempt a loss, of the others from where it goes on
    if number < 20:
        lines += [process.stdout.readline() for _ in range(random.randrange(3))]
        time.sleep(random.random() * 0.03)
        process.send_signal(random.choice([signal.SIGTERM, signal.SIGKILL]))
    said.append("".join(lines) + process.communicate()[0])
    codes.append(process.returncode)
print(json.dumps([said, codes]))
"""


def test_a_run_that_is_killed_twenty_times_prints_the_losses_of_one_that_never_was(lab: Lab) -> None:
    options = ["--batch-size", "4", "--epochs", "5", "--log-every", "37", "--checkpoint-every", "10"]
    whole = lab.train("/tmp/whole", *options)
    assert whole.code == 0, whole.output
    seed = random.randrange(1_000_000)
    command = ["/trainer/train.py", "--data-path", "/small", "--output-dir", "/tmp/killed", *options]
    said, codes = json.loads(lab.run("python", "-c", KILLS, str(seed), *command).output.splitlines()[-1])
    assert codes[-1] == 0, (seed, said[-1])
    assert {-9, 143} <= set(codes[:-1]), (seed, codes)
    assert codes[:-1].count(0) == 0, (seed, "all kills must meet a run that goes on")
    printed = {line.partition(": loss")[0]: line for text in said for line in text.splitlines() if "epoch=" in line}
    every = [line for text in said for line in text.splitlines() if "epoch=" in line]
    assert set(every) == set(whole.lines), seed  # also what was printed again is the same
    assert list(printed.values()) == whole.lines, seed
    for name in ("loss", "test_accuracy"):
        assert lab.metrics("/tmp/killed", name) == lab.metrics("/tmp/whole", name), seed
    lab.script("""
        import torch
        one, two = (torch.load(f"/tmp/{name}/model.pt") for name in ("whole", "killed"))
        assert all(torch.equal(one[name], two[name]) for name in one)
    """)
    kept = lab.run("ls", "/tmp/killed/checkpoints").output.split()
    assert len(kept) == 2, kept


def test_several_processes_go_on_from_an_epochs_end_as_if_they_had_not_stopped(lab: Lab) -> None:
    # of three addends the order tells; 103 steps are no multiple of a line's 30; an accuracy is there already
    options = ["--batch-size", "39", "--log-every", "30", "--checkpoint-every", "103", "--learning-rate", "0.02"]
    whole = lab.train("/tmp/three-whole", *options, "--epochs", "2", processes=3)
    begun = lab.train("/tmp/three", *options, "--epochs", "1", processes=3)
    assert begun.code == 0, begun.output
    again = lab.train("/tmp/three", *options, "--epochs", "2", processes=3)
    assert "Going on from step 103 of 206: /tmp/three/checkpoints/step-0000000103.pt" in again.output
    assert (again.code, again.lines) == (0, whole.lines[3:])
    for name in ("loss", "test_accuracy"):
        assert lab.metrics("/tmp/three", name) == lab.metrics("/tmp/three-whole", name)
    alone = lab.train("/tmp/three", *options, "--epochs", "3")  # and another number of processes goes on too
    assert "Going on from step 206 of 309" in alone.output
    assert (alone.code, len(alone.lines)) == (0, 3), alone.output


def test_what_cannot_be_gone_on_from_is_told(lab: Lab) -> None:
    options = ["--batch-size", "40", "--epochs", "1", "--log-every", "50", "--checkpoint-every", "20", "--keep", "3"]
    whole = lab.train("/tmp/resumed", *options)
    other = lab.train("/tmp/resumed", *options, "--learning-rate", "0.5")
    assert other.code == 7
    assert "step-0000000100.pt was made with --learning-rate 0.001, not 0.5: --resume never" in other.output
    assert "Traceback" not in other.output

    lab.run("bash", "-c", "cd /tmp/resumed/checkpoints && truncate --size=1000 step-0000000100.pt")
    damaged = lab.train("/tmp/resumed", *options)
    assert "step-0000000100.pt cannot be read" in damaged.output
    assert "Going on from step 80 of 100" in damaged.output
    assert (damaged.code, damaged.lines) == (0, whole.lines[1:])

    named = lab.train("/tmp/other", *options, "--resume", "/tmp/resumed/checkpoints/step-0000000060.pt")
    assert (named.code, named.lines) == (0, whole.lines[1:])
    assert lab.train("/tmp/other", *options, "--resume", "/tmp/nowhere.pt").code == 7

    anew = lab.train("/tmp/resumed", *options, "--resume", "never", "--seed", "3")
    assert (anew.code, len(anew.lines)) == (0, 2)
    assert lab.metrics("/tmp/resumed") != lab.metrics("/tmp/other")


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(lab: Lab) -> None:
    done = lab.train(
        "/disk/out", "--batch-size", "40", "--epochs", "1", "--log-every", "50", "--checkpoint-every", "40"
    )
    assert "warning: no checkpoint at step 80 (No space left on device)" in done.output
    assert "the last good one: /disk/out/checkpoints/step-0000000040.pt" in done.output
    assert (done.code, len(done.lines)) == (0, 2)
    assert lab.run("ls", "/disk/out/checkpoints").output.split() == ["step-0000000040.pt"]
    lab.run("dd", "if=/dev/zero", "of=/disk/full")
    full = lab.train("/disk/out", "--batch-size", "40", "--epochs", "1")
    assert full.code == 8
    assert full.output.splitlines()[-1].startswith("error: /disk/out cannot be written: No space left on device")
    assert lab.run("ls", "/disk/out/checkpoints").output.split() == ["step-0000000040.pt"]


# --- what goes wrong


def test_a_loss_that_is_no_number_is_told_with_its_step_and_batch(lab: Lab) -> None:
    options = ["--batch-size", "40", "--epochs", "2", "--log-every", "25", "--learning-rate", "1e30"]
    done = lab.train("/tmp/nan", *options)
    assert done.code == 4
    assert re.search(r"error: the loss is (nan|inf) at step \d+ \(epoch 1, batch \d+\)", done.output), done.output
    assert "--on-nan go" in done.output
    assert "Traceback" not in done.output
    goes_on = lab.train("/tmp/nan", *options, "--on-nan", "go")
    assert goes_on.code == 0
    assert "going on" in goes_on.output
    assert len(goes_on.lines) == 8


def test_a_batch_that_does_not_fit_says_what_to_lower(lab: Lab) -> None:
    train = "exec python /trainer/train.py --data-path /data --output-dir /tmp/large --batch-size 50000"
    done = lab.run("bash", "-c", f"ulimit -v 4000000; {train}")
    assert done.code == 5, done.output
    assert done.output.splitlines()[-1].startswith(
        "error: cpu has no memory for 50000 images at a time: lower --batch-"
    )
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("rm test_batch", "test_batch is missing: run `make data`"),
        ("truncate --size=-1 data_batch_3", "data_batch_3 cannot be read"),
        ("echo > data_batch_2", "data_batch_2 cannot be read"),
        ("cp data_batch_1 data_batch_2", "data_batch_2 is not the file that SHA256SUMS names"),
    ],
)
def test_a_data_set_that_is_not_whole_is_told_by_its_file(lab: Lab, harm: str, said: str) -> None:
    folder = "/tmp/harmed/cifar-10-batches-py"
    sums = "sha256sum * > SHA256SUMS;" if "SHA256SUMS" in said else ""
    lab.run("bash", "-c", f"rm -rf /tmp/harmed; cp -r /small /tmp/harmed; cd {folder}; {sums} {harm}")
    done = lab.train("/tmp/unused", "--data-path", "/tmp/harmed")
    assert done.code == 3
    assert f"error: {folder}/{said}" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "variables", "code", "said"),
    [
        (["--device", "cuda"], {}, 9, "has no GPU: the node has 0; --device cpu"),
        (["--batch-size", "2"], {"WORLD_SIZE": "4"}, 2, "--batch-size 2 is less than an image for each of 4 processes"),
        (["--epochs", "0"], {}, 2, "0 is less than 1"),
    ],
)
def test_a_wrong_option_is_one_line(
    lab: Lab, options: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    done = lab.train("/tmp/unused", *options, **variables)
    assert (done.code, said in done.output) == (code, True), done.output
    assert "Traceback" not in done.output


def test_bfloat16_learns_too_and_is_another_computation(lab: Lab) -> None:
    options = ["--batch-size", "16", "--epochs", "2", "--log-every", "100", "--learning-rate", "0.02"]
    plain, half = (lab.train(f"/tmp/{name}", *options, *more) for name, more in (("plain", []), ("half", ["--bf16"])))
    assert plain.lines != half.lines
    accuracies = [lab.metrics(f"/tmp/{name}", "test_accuracy")[0][1] for name in ("plain", "half")]
    assert min(accuracies) > 0.7, accuracies
    assert round(accuracies[0] * TEST) / TEST == accuracies[0]


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    made = clone(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "other").touch()
    (tmp_path / "parity.toml").write_text('[data]\ndataset = "none"\n')
    done = made.parity("run-local")
    assert done.returncode == 3
    log = (made.folder(done.stdout) / "stdout.log").read_text()
    assert "make data" in log
    assert "Traceback" not in log
