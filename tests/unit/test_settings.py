from pathlib import Path

import pytest

from tools import settings
from tools.errors import SettingsError


def load(tmp_path: Path, text: str) -> settings.Settings:
    (tmp_path / "parity.toml").write_text(text)
    return settings.load(tmp_path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    assert loaded.root == tmp_path
    assert loaded.source == tmp_path / "trainer"
    assert loaded.resources.shm_bytes == 2 * 2**30


def test_the_file_in_this_repository_shows_every_key_with_its_default(tmp_path: Path) -> None:
    shown = settings.load(Path(__file__))
    assert shown.model_copy(update={"root": tmp_path}) == load(tmp_path, "")
    text = (shown.root / "parity.toml").read_text()
    for section, field in settings.Settings.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert key in text, f"[{section}] {key} is not documented in parity.toml"


def test_settings_are_found_from_a_folder_below(tmp_path: Path) -> None:
    load(tmp_path, '[image]\nname = "mine"\n')
    below = tmp_path / "trainer" / "deep"
    below.mkdir(parents=True)
    assert settings.load(below).image.name == "mine"


def test_no_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=str(tmp_path)):
        settings.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[image]\nnaem = "x"', ["parity.toml: image.naem: unknown key", "name, platform", "did you mean name?"]),
        ("[imgae]", ["imgae: unknown key", "did you mean image?"]),
        ("[image]\nname = 3", ["image.name = 3", "string", "found int"]),
        ('[image]\nname = "Mine"', ["image.name = 'Mine'", "must match"]),
        ('[image]\nplatform = "linux-46"', ["image.platform = 'linux-46'", "did you mean linux-64?"]),
        ('[resources]\nshm_size = "2 GB"', ["resources.shm_size = '2 GB'"]),
        ('[run.environment_variables]\n"A-B" = "1"', ["'A-B' is not a name"]),
        ("[run.environment_variables]\nA = 1", ["run.environment_variables.A = 1", "found int"]),
        ('[data]\npath = ""', ["parity.toml: data: ", 'dataset = "cifar-10"', 'set dataset = "none" too']),
        ('[data]\npath = ""\ndataset = "none"', ["parity.toml: run.command reads {data}", "take {data} out of"]),
        ('root = "/"', ["unknown key: root"]),
        ("[image", ["not valid TOML"]),
    ],
)
def test_a_mistake_is_told_with_file_key_and_what_is_allowed(tmp_path: Path, text: str, said: list[str]) -> None:
    message = refused(tmp_path, text)
    assert str(tmp_path / "parity.toml") in message
    for part in said:
        assert part in message


def test_an_empty_path_is_a_run_without_a_data_set(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[run]\ncommand = "python train.py"\n[data]\npath = ""\ndataset = "none"\n')
    assert loaded.data_path is None
    assert load(tmp_path, "").data_path == tmp_path / "data"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, '[image]\nname = 1\n[run]\nsuorce = "x"\n')
    assert "image.name" in message
    assert "did you mean source?" in message


@pytest.mark.parametrize(
    "address", ["", "myacr.azurecr.io", "127.0.0.1:5000", "localhost", "ghcr.io/org/team", "build:5000"]
)
def test_a_registry_is_a_host_and_folders(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, f'[image]\nregistry = "{address}"\n').image.registry == address


@pytest.mark.parametrize(
    "address", ["https://myacr.azurecr.io", "myacr", "myacr.azurecr.io/", "me:secret@myacr.azurecr.io"]
)
def test_what_is_no_registry_is_refused(tmp_path: Path, address: str) -> None:
    assert "image.registry" in refused(tmp_path, f'[image]\nregistry = "{address}"\n')


def test_another_platform_changes_nothing_else(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[image]\nname = "mine"\n')
    other = loaded.for_platform("linux-aarch64")
    assert (other.image.platform, other.image.name, other.root) == ("linux-aarch64", "mine", loaded.root)
    with pytest.raises(SettingsError, match="did you mean linux-64"):
        loaded.for_platform("linux-46")
