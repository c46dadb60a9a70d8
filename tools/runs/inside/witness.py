"""Notes what the process will see, then becomes the command: same process, same signals, same exit code.

    python -I -S witness.py NOTE COMMAND [ARGUMENT ...]

It is a layer of the image and runs before every command, on every target, with Python's own library alone (3.8 and
on). NOTE is where its note goes, below the working directory; of node 1 and on, NOTE-1 and so on. Of variables the note
has the names and, for those that PARITY_VARIABLES names, the hash of the value; it never holds a value. Whatever goes
wrong here, the command runs.
"""

import hashlib
import json
import os
import re
import sys
import time

SCHEMA = 1
HASHED_BYTES = 32_000_000  # of the snapshot; what is larger is noted by its size, to stay within 150 ms
LISTED = 1_000  # files of an input, for the same reason
MANIFEST = ".parity.json"  # what the toolkit itself notes of a data set, and does not upload
INPUT = "AZUREML_DATAREFERENCE_"  # with an input's name: the variable that holds its path
VARIABLES = "PARITY_VARIABLES"
NOTE = "PARITY_NOTE"  # tells hook.py where the note is
SERVICE = "/mnt/azureml/cr/"  # where the service keeps what it brings to a run; no two runs have the same folder there
INCONSTANT = ("AZUREML_", "AZURE_ML_", "MLFLOW_", "PARITY_", "HOSTNAME", "OLDPWD", "PWD", "SHLVL", "_")


def main():
    """Writes the note and becomes the command."""
    begun = time.perf_counter()
    note, command = sys.argv[1], sys.argv[2:]
    node = os.environ.get("NODE_RANK", "0")
    if node != "0":
        stem, extension = os.path.splitext(note)
        note = f"{stem}-{node}{extension}"
    try:
        path = os.path.abspath(note)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        seen = look()
        seen["milliseconds"] = round((time.perf_counter() - begun) * 1000, 1)
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump(seen, file, indent=1, sort_keys=True)
        os.replace(f"{path}.part", path)
        os.environ[NOTE] = path
    except Exception as error:
        print(f"parity: no note of this run was made: {type(error).__name__}: {error}", file=sys.stderr)
    sys.stdout.flush()
    os.execvp(command[0], command)


def look():
    """All facts, each group by itself: one that cannot be had says why and takes no other with it."""
    seen = {"schema": SCHEMA}
    for group in (python, packages, files, inputs, variables, process, limits, machine, gpu, locale):
        try:
            seen[group.__name__] = group()
        except Exception as error:
            seen[group.__name__] = {"unknown": f"{type(error).__name__}: {error}"}
    return seen


def python():
    """The Python that `python` is for the command: this one, unless PATH says otherwise."""
    import shutil

    return {
        "executable": shutil.which("python") or sys.executable,
        "version": sys.version,
        "prefix": sys.prefix,
        "path": [each for each in sys.path if each not in ("", os.path.dirname(os.path.abspath(__file__)))],
        "pythonpath": own("PYTHONPATH"),
        "site_packages": site_packages(),
    }


def site_packages():
    """Where the interpreter's packages lie."""
    return os.path.join(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


def packages():
    """Every installed distribution, by the names of their records; those of conda with their builds."""
    found = {}
    for name in os.listdir(site_packages()):
        match = re.match(r"(.+?)-([^-]+)\.(?:dist|egg)-info$", name)
        if match:
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    conda = {}
    records = os.path.join(sys.prefix, "conda-meta")
    for name in os.listdir(records) if os.path.isdir(records) else ():
        match = re.match(r"(.+)-([^-]+)-([^-]+)\.json$", name)
        if match:
            conda[match[1]] = f"{match[2]} {match[3]}"
    return {"sha256": digest(json.dumps([found, conda], sort_keys=True)), "python": found, "conda": conda}


def files():
    """Each file of the working directory, before the command touches any: its size, and its sha256 if that is cheap."""
    found, total = {}, 0
    for folder, names, here in os.walk("."):
        names.sort()
        for name in here:
            path = os.path.join(folder, name)
            if os.path.islink(path) or path.endswith(".part"):
                continue
            relative = os.path.relpath(path, ".").replace(os.sep, "/")
            size = os.path.getsize(path)
            total += size
            found[relative] = {"bytes": size}
            if total <= HASHED_BYTES and not relative.startswith(("user_logs/", "azureml-logs/", "logs/")):
                with open(path, "rb") as file:
                    found[relative]["sha256"] = hashlib.sha256(file.read()).hexdigest()
    return {name: fact for name, fact in found.items() if not name.startswith(("user_logs/", "azureml-logs/", "logs/"))}


def inputs():
    """What lies where each input should: its first files in the order of their names, by names and sizes."""
    return {name[len(INPUT) :]: listing(path) for name, path in sorted(os.environ.items()) if name.startswith(INPUT)}


def listing(path):
    """A folder's files in words."""
    if not os.path.exists(path):
        return "absent"
    sizes = []
    for folder, names, here in os.walk(path):
        names.sort()
        for each in sorted(set(here) - {MANIFEST}):
            file = os.path.join(folder, each)
            sizes.append((os.path.relpath(file, path), os.path.getsize(file)))
            if len(sizes) == LISTED:
                return f"{LISTED} files or more, the first sha256:{digest(json.dumps(sizes))}"
    total = sum(size for _, size in sizes)
    return f"{len(sizes)} files, {total} bytes, names and sizes sha256:{digest(json.dumps(sizes))}"


def variables():
    """The names of all variables but those that each run has its own of; the hashes of those that we set."""
    ours = set(filter(None, os.environ.get(VARIABLES, "").split(",")))
    theirs = [name for name, value in os.environ.items() if value and not own(name)]
    names = sorted(name for name in os.environ if name not in theirs and not name.startswith(INCONSTANT))
    return {"names": names, "set": {name: digest(os.environ.get(name, "")) for name in sorted(ours)}}


def own(name):
    """A variable without the paths that the service put into it."""
    return ":".join(each for each in os.environ.get(name, "").split(":") if not each.startswith(SERVICE))


def process():
    """Who runs, and where."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "directory": re.sub(r"/[0-9a-f]{32}/", "/RUN/", os.getcwd()),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": sorted(os.getgroups()),
        "umask": f"{mask:03o}",
        "home": os.environ.get("HOME", ""),
        "host_name": re.sub(r"[0-9]+", "0", re.sub(r"^[0-9a-f]{12}$", "CONTAINER", os.uname().nodename)),
    }


def limits():
    """What the container may use: bytes of /dev/shm and memory, processors, and the limits of a process."""
    import resource

    names = ("NOFILE", "NPROC", "STACK", "MEMLOCK", "AS", "CORE")
    shm = os.statvfs("/dev/shm")
    return {
        "shm_bytes": shm.f_blocks * shm.f_frsize,
        "memory_bytes": number(control("memory.max") or control("memory/memory.limit_in_bytes")),
        "processors": processors(),
        "usable_processors": len(os.sched_getaffinity(0)),
        **{f"ulimit_{name.lower()}": resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in names},
    }


def processors():
    """The processors that the container may use by its quota; None for all of the machine's."""
    new = control("cpu.max").split()
    quota, period = new if len(new) == 2 else (control("cpu/cpu.cfs_quota_us"), control("cpu/cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def machine():
    """The processor, and what decides how many threads a library starts."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = [line.partition(":") for line in file.read().partition("\n\n")[0].splitlines()]
    cpu = {name.strip(): value.strip() for name, _, value in lines}
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) * 1024
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        "architecture": os.uname().machine,
        "cpu": cpu.get("model name") or cpu.get("CPU part", ""),
        "cpu_flags": sorted((cpu.get("flags") or cpu.get("Features", "")).split()),
        "cpus": os.cpu_count(),
        "kernel": os.uname().release,
        "memory_bytes": memory,
        "threads": {name: os.environ[name] for name in threads if name in os.environ},
    }


def gpu():
    """The driver and the devices, as the driver's own files tell."""
    driver = read("/proc/driver/nvidia/version").partition("\n")[0]
    devices = []
    folder = "/proc/driver/nvidia/gpus"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        match = re.search(r"Model:\s*(.+)", read(os.path.join(folder, name, "information")))
        devices.append(match[1].strip() if match else name)
    return {"driver": driver, "devices": devices, "visible": os.environ.get("NVIDIA_VISIBLE_DEVICES", "")}


def locale():
    """What dates, numbers and texts depend on."""
    names = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "TZ", "PYTHONHASHSEED", "PYTHONUTF8")
    return {"zone": list(time.tzname), **{name: os.environ.get(name, "") for name in names}}


def control(name):
    """A value of the container's control group, of version 2 or 1."""
    return read(os.path.join("/sys/fs/cgroup", name)).strip()


def number(text):
    """A limit in bytes; None where there is none (version 1 says so by a number beyond any machine's)."""
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None


def read(path):
    """A file's text; "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def digest(text):
    """The sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


if __name__ == "__main__":
    main()
