"""What is known not to belong in a snapshot: names of folders and files, and a sentence for each kind."""

from __future__ import annotations

from typing import NamedTuple

LARGE = 1 << 20  # bytes of data files with one extension, all together, from which on they are named


class Kind(NamedTuple):
    """title: what it is. advice: one sentence. inside: whether credentials in such a folder are of interest too."""

    title: str
    advice: str
    inside: bool = False


DATA = Kind("data", "The data set lies in the source directory: move it out, and the run mounts it as its input.", True)
DATA_FILES = Kind("data files", "Data is an input of the run: move it to the data folder.")
WEIGHTS = Kind("weights", "Checkpoints and weights are outputs of runs: register them, or make them an input.", True)
GIT = Kind("git", "A run has no use for the repository's history; its record names the commit.")
ENVIRONMENT = Kind("environment", "Installed packages belong to the image, which the lock makes.")
CACHE = Kind("cache", "Whatever made this makes it again.")
RESULTS = Kind("results", "Results of earlier runs go up again with each new one.", True)
NOTEBOOKS = Kind("notebook checkpoints", "A run has no use for Jupyter's copies of notebooks.")
ARCHIVES = Kind("archives", "Archives are data or copies: make them an input, or leave them out.")
LINKS = Kind("links", "The link leads out of the source directory, and what it leads to goes up as a copy.")
CREDENTIALS = Kind("credentials", "Whoever reads the workspace reads its snapshots: pass secrets as variables instead.")

# The order in which people are told: data first, since it is the usual reason.
ORDER = (
    DATA, DATA_FILES, WEIGHTS, GIT, ENVIRONMENT, CACHE, RESULTS, NOTEBOOKS, ARCHIVES, LINKS, CREDENTIALS,
)  # fmt: skip


def _all(names: str, kind: Kind) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


FOLDERS = {
    **_all(".git .hg .svn", GIT),
    **_all(".venv venv .conda .tox .nox node_modules site-packages", ENVIRONMENT),
    **_all("__pycache__ .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache", CACHE),
    **_all("mlruns mlartifacts lightning_logs wandb azureml-logs azureml-setup", RESULTS),
    ".ipynb_checkpoints": NOTEBOOKS,
}
# These may be packages of code as well: then code lies in them.
UNLESS_CODE = {**_all("data dataset datasets", DATA), **_all("checkpoints weights", WEIGHTS)}
UNLESS_CODE_AT_THE_TOP = _all("outputs runs logs", RESULTS)
CODE = (".py", ".ipynb", ".sh", ".c", ".cc", ".cpp", ".cu", ".h", ".rs", ".go", ".js", ".ts", ".R", ".jl")

# Names that end like this are in none of the tables below.
HARMLESS = (*CODE, ".txt", ".md", ".rst", ".toml", ".cfg", ".ini", ".html", ".css")

EXTENSIONS = {
    **_all(".csv .tsv .jsonl .parquet .arrow .feather .avro .orc .npy .npz .h5 .hdf5 .mat .tfrecord", DATA_FILES),
    **_all(".tfrecords .lmdb .mdb .pkl .pickle .db .sqlite .sqlite3 .bin .dcm .nii", DATA_FILES),
    **_all(".jpg .jpeg .png .tif .tiff .bmp .wav .flac .mp3 .mp4 .avi", DATA_FILES),
    **_all(".pt .pth .ckpt .safetensors .onnx .pb .keras .tflite .gguf .mar", WEIGHTS),
    **_all(".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .whl", ARCHIVES),
    **_all(".pyc .pyo", CACHE),
}

CREDENTIAL_NAMES = _all(
    ".env .netrc .pypirc .npmrc .git-credentials .htpasswd id_rsa id_dsa id_ecdsa id_ed25519 credentials"
    " credentials.json client_secret.json service-account.json secrets.json secrets.yml secrets.yaml"
    " azureauth.json accessTokens.json msal_token_cache.json kaggle.json",
    CREDENTIALS,
)
CREDENTIAL_ENDS = (".key", ".pfx", ".p12", ".kdbx", ".ppk", ".publishsettings", ".azureml/config.json")
EXAMPLES = (".example", ".sample", ".template", ".dist")


def names_credentials(path: str) -> bool:
    """Whether a file holds credentials, to go by its path."""
    name = path.rpartition("/")[2]
    if name in CREDENTIAL_NAMES or path.endswith(CREDENTIAL_ENDS):
        return True
    return name.startswith(".env.") and not name.endswith(EXAMPLES)
