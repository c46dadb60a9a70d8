import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.environment.conda_file import normalised, package_name, without_channel
from tools.environment.spec import EnvironmentSpec, find
from tools.errors import SpecError
from tools.settings import Settings

names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
constraints = st.sampled_from(["", "=3.11", ">=2", ">=1,<2", "==1.0", "=2.1=cpu*", "!=1.5"])
comments = st.sampled_from(["", "  # needed by the model", "  # see [1]"])


def write(folder, text, name="env.yml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(folder, text, name="env.yml"):
    return EnvironmentSpec.load(write(folder, text, name))


def refusal(folder, text, name="env.yml"):
    path = write(folder, text, name)
    with pytest.raises(SpecError) as caught:
        EnvironmentSpec.load(path)
    return str(caught.value).replace(str(folder), "")


class TestCondaFile:
    def test_holds_what_the_file_says(self, tmp_path):
        spec = load(
            tmp_path,
            "name: anything\nchannels: [pytorch, conda-forge]\n"
            "dependencies:\n  - python=3.11\n  - conda-forge::numpy >=2\n  - pip\n  - pip:\n    - tqdm[notebook]>=4\n",
        )
        assert spec.name == "env"
        assert spec.channels == ("pytorch", "conda-forge")
        assert spec.dependencies == ("python=3.11", "conda-forge::numpy >=2", "pip")
        assert spec.pip == ("tqdm[notebook]>=4",)
        assert not spec.cuda

    def test_takes_conda_forge_where_no_channel_is_named(self, tmp_path):
        assert load(tmp_path, "dependencies: [python]").channels == ("conda-forge",)
        assert load(tmp_path, "channels: [nodefaults]\ndependencies: [python]").channels == ("conda-forge",)

    def test_brings_pip_where_a_pip_section_forgets_it(self, tmp_path):
        assert load(tmp_path, "dependencies: [python, {pip: [tqdm]}]").dependencies == ("python", "pip")

    def test_reads_what_conda_env_export_writes(self, tmp_path):
        spec = load(tmp_path, "name: x\ndependencies: [python=3.11.5=h123_0]\nprefix: /home/me/x\n")
        assert spec.dependencies == ("python=3.11.5=h123_0",)

    @pytest.mark.parametrize(
        ("selector", "kept"),
        [
            ("linux64", "mkl  # [linux64]"),
            ("aarch64", "mkl  # [aarch64]"),
            ("linux", "mkl"),
            ("unix", "mkl"),
            ("osx", None),
            ("win", None),
            ("arm64", None),
            ("1", "mkl"),  # no selector but a footnote
        ],
    )
    def test_keeps_the_lines_whose_selector_a_linux_platform_has(self, tmp_path, selector, kept):
        spec = load(tmp_path, f"dependencies:\n  - python\n  - mkl  # [{selector}]\n  - zlib\n")
        assert spec.dependencies == (("python", kept, "zlib") if kept else ("python", "zlib"))

    def test_follows_a_requirements_file_in_the_pip_section(self, tmp_path):
        write(tmp_path, "tqdm>=4\n", "requirements.txt")
        spec = load(tmp_path, "dependencies: [python, pip, {pip: ['-r requirements.txt', 'rich']}]")
        assert spec.pip == ("tqdm>=4", "rich")

    @pytest.mark.parametrize(
        "dependency",
        ["cuda-version=12.4", "pytorch-gpu", "pytorch=2.5=*cuda*", "__cuda>=12", "pytorch::pytorch-cuda", "cudnn"],
    )
    def test_asks_for_cuda_when_a_dependency_does(self, tmp_path, dependency):
        assert load(tmp_path, f"dependencies: [python, '{dependency}']").cuda

    @pytest.mark.parametrize("dependency", ["pytorch", "pytorch=2.5=cpu*", "pytorch-cpu"])
    def test_does_not_ask_for_cuda_otherwise(self, tmp_path, dependency):
        assert not load(tmp_path, f"dependencies: [python, '{dependency}']").cuda

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("dependancies: [python]", ["/env.yml:1: unknown key dependancies", "did you mean dependencies?"]),
            ("name: x\nvariables: {A: b}\ndependencies: [a]", ["/env.yml:2", "[run.environment_variables]"]),
            ("dependencies: [python]\npip-repositories: [x]", ["/env.yml:2", "pip config set global.index-url"]),
            ("dependencies:\n  - python\n  - 3.11\n", ["/env.yml:3: dependencies: 3.11, a float", "python=3.11"]),
            ("dependencies:\n  - python\n  -\n", ["/env.yml:3: dependencies: a null"]),
            ("dependencies: python", ["/env.yml:1: dependencies: a scalar", "a list"]),
            ("dependencies:\n", ["/env.yml:1: dependencies: nothing"]),
            ("dependencies: []", ["no package"]),
            ("name: x", ["no dependencies"]),
            ("", ["/env.yml: empty"]),
            ("- python", ["a sequence, not a mapping"]),
            ("dependencies: [python\nname: x", ["/env.yml:2: not valid YAML"]),
            ("dependencies: [python, '>=3']", ["'>=3' is no match spec"]),
            ("dependencies: [python, {npm: [left-pad]}]", ["unknown section npm"]),
            ("dependencies: [{pip: [tqdm]}, pip]", ["a pip section without python"]),
            ("dependencies: [python, {pip: ['-e .']}]", ["-e cannot go into a lock", "a released version"]),
            ("dependencies: [python, {pip: ['./wheels/a.whl']}]", ["/env.yml:1", "is no requirement"]),
            ("channels: ['https://me:secret@host/c']\ndependencies: [a]", ["/env.yml:1: channels", "credentials"]),
            ("channels: ['https://host/t/abc-123/c']\ndependencies: [a]", ["credentials", "RATTLER_AUTH_FILE"]),
        ],
    )
    def test_a_mistake_is_named_by_file_line_and_what_was_expected(self, tmp_path, text, told):
        message = refusal(tmp_path, text)
        assert [part for part in told if part not in message] == [], message
        assert "secret" not in message

    def test_other_bytes_than_utf8_are_refused(self, tmp_path):
        path = tmp_path / "env.yml"
        path.write_bytes(b"dependencies: [python] # \xff")
        with pytest.raises(SpecError, match="UTF-8"):
            EnvironmentSpec.load(path)


class TestRequirementsFile:
    def test_becomes_a_python_with_pip_and_its_packages(self, tmp_path):
        path = write(tmp_path, "# comment\nnumpy>=2  # why\n\ntqdm\n", "requirements.txt")
        spec = EnvironmentSpec.load(path, python="3.12")
        assert spec.dependencies == ("python=3.12", "pip")
        assert spec.channels == ("conda-forge",)
        assert spec.pip == ("numpy>=2", "tqdm")

    def test_includes_other_files_relative_to_itself(self, tmp_path):
        write(tmp_path, "rich\n", "more/base.txt")
        assert load(tmp_path, "-r more/base.txt\ntqdm\n", "a.txt").pip == ("rich", "tqdm")
        assert load(tmp_path, "--requirement=more/base.txt\n", "a.txt").pip == ("rich",)

    def test_keeps_hashes_apart_from_the_requirement(self, tmp_path):
        first, second = "a" * 64, "B" * 64
        spec = load(tmp_path, f"Tq_Dm==4 \\\n    --hash=sha256:{first} \\\n    --hash=sha256:{second}\nrich\n", "a.txt")
        assert spec.pip == ("Tq_Dm==4", "rich")
        assert spec.hashes == (("tq-dm", first), ("tq-dm", second.lower()))

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("numpy\n-c constraints.txt\n", ["/a.txt:2: -c cannot go into a lock", "no constraints"]),
            ("-e .\n", ["/a.txt:1: -e", "a released version"]),
            ("--extra-index-url https://u:secret@host/simple\n", ["pip's own configuration"]),
            ("-fwheels\n", ["-fwheels cannot go into a lock"]),
            ("--pre\n", ["--pre cannot go into a lock"]),
            ("numpy --no-binary :all:\n", ["--no-binary cannot go into a lock"]),
            ("numpy --hash=md5:abc\n", ["--hash=md5", "sha256"]),
            ("numpy \\\n\nra%ng\n", ["/a.txt:3: 'ra%ng' is no requirement"]),
            ("numpy\nra%ng \\\n  >=2\n", ["/a.txt:2: 'ra%ng", "is no requirement"]),
            ("x @ git+https://host/x\n", ["a repository"]),
            ("x @ https://host/x-1-py3-none-any.whl\n", ["without sha256"]),
            ("-r missing.txt\n", ["/a.txt:1: -r missing.txt: no such file"]),
            ("-r a.txt\n", ["in a circle"]),
        ],
    )
    def test_what_no_lock_can_hold_is_refused_by_line(self, tmp_path, text, told):
        message = refusal(tmp_path, text, "a.txt")
        assert [part for part in told if part not in message] == [], message
        assert "secret" not in message

    def test_a_direct_address_with_a_hash_is_a_requirement(self, tmp_path):
        text = f"x @ https://host/x-1-py3-none-any.whl#sha256={'0' * 64}"
        assert load(tmp_path, text, "a.txt").pip == (text,)


class TestCondaPrefix:
    @staticmethod
    def record(prefix, name, version, channel="https://host.example/own/noarch", files=()):
        text = json.dumps({"name": name, "version": version, "channel": channel, "files": list(files)})
        write(prefix / "conda-meta", text, f"{name}-{version}-0.json")

    @staticmethod
    def dist(prefix, name, version, installer="pip", direct=False):
        folder = f"lib/python3.11/site-packages/{name}-{version}.dist-info"
        write(prefix / folder, f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\ntext", "METADATA")
        write(prefix / folder, f"{installer}\n", "INSTALLER")
        if direct:
            write(prefix / folder, "{}", "direct_url.json")
        return f"{folder}/METADATA"

    def test_gives_every_package_and_what_pip_put_beside_them(self, tmp_path):
        prefix = tmp_path / "torch-env"
        self.record(prefix, "python", "3.11.5")
        self.record(prefix, "tqdm", "4.1", files=[self.dist(prefix, "tqdm", "4.1")])  # some recipes install by pip
        self.record(prefix, "rich", "13.0", files=[self.dist(prefix, "rich", "13.0", installer="conda")])
        self.dist(prefix, "Azureml_Core", "1.2")
        spec = EnvironmentSpec.load(prefix)
        assert spec.name == "torch-env"
        assert spec.channels == ("https://host.example/own",)
        assert spec.dependencies == ("python=3.11.5", "rich=13.0", "tqdm=4.1")
        assert spec.pip == ("azureml-core==1.2",)

    def test_names_the_channel_of_each_package_where_there_are_several(self, tmp_path):
        self.record(tmp_path, "python", "3.11.5", channel="conda-forge")
        self.record(tmp_path, "zlib", "1.3", channel="conda-forge")
        self.record(tmp_path, "pytorch", "2.5", channel="pytorch")
        spec = EnvironmentSpec.load(tmp_path)
        assert spec.channels == ("conda-forge", "pytorch")
        assert "pytorch::pytorch=2.5" in spec.dependencies

    def test_knows_a_channel_by_its_short_name(self, tmp_path):
        from rattler import Channel

        self.record(tmp_path, "python", "3.11.5", channel=f"{Channel('conda-forge').base_url}linux-64")
        assert EnvironmentSpec.load(tmp_path).channels == ("conda-forge",)

    def test_keeps_no_credentials_of_a_channel(self, tmp_path):
        self.record(tmp_path, "python", "3.11.5", channel="https://me:secret@host.example/own/linux-64")
        assert EnvironmentSpec.load(tmp_path).channels == ("https://host.example/own",)

    def test_refuses_what_pip_installed_from_a_folder(self, tmp_path):
        self.record(tmp_path, "python", "3.11.5")
        self.dist(tmp_path, "mine", "0.1", direct=True)
        with pytest.raises(SpecError, match="pip installed mine from a folder"):
            EnvironmentSpec.load(tmp_path)

    def test_another_folder_is_none(self, tmp_path):
        with pytest.raises(SpecError, match="without conda-meta"):
            EnvironmentSpec.load(tmp_path)

    def test_a_broken_record_is_named(self, tmp_path):
        write(tmp_path / "conda-meta", "{", "python-3-0.json")
        with pytest.raises(SpecError, match=r"python-3-0\.json"):
            EnvironmentSpec.load(tmp_path)


class TestFind:
    @pytest.fixture
    def settings(self, tmp_path, monkeypatch):
        write(tmp_path / "environments", "dependencies: [python]", "pytorch.yml")
        write(tmp_path / "environments", "tqdm", "plain.txt")
        write(tmp_path / "environments", "version: 1", "pytorch.conda-lock.yml")
        monkeypatch.chdir(tmp_path)
        return Settings(root=tmp_path)

    def test_a_name_is_a_file_of_the_environments_folder(self, settings):
        assert find(settings, "pytorch") == Path("environments/pytorch.yml")
        assert find(settings, "plain") == Path("environments/plain.txt")

    def test_a_path_is_relative_to_the_current_folder_or_the_project(self, settings, tmp_path, monkeypatch):
        assert find(settings, "environments/pytorch.yml") == Path("environments/pytorch.yml")
        monkeypatch.chdir(tmp_path / "environments")
        assert find(settings, "plain.txt") == Path("plain.txt")
        assert find(settings, "environments/plain.txt") == Path("plain.txt")

    def test_a_conda_environment_is_found_by_its_folder(self, settings, tmp_path):
        TestCondaPrefix.record(tmp_path / "env", "python", "3.11")
        assert find(settings, str(tmp_path / "env")) == Path("env")

    def test_an_unknown_name_shows_those_there_are_and_the_nearest(self, settings):
        with pytest.raises(SpecError) as caught:
            find(settings, "pytroch")
        assert "did you mean pytorch?" in str(caught.value)
        assert "one of plain, pytorch (in" in str(caught.value)

    def test_a_lock_is_no_spec(self, settings):
        with pytest.raises(SpecError, match="this is a lock"):
            EnvironmentSpec.load(find(settings, "environments/pytorch.conda-lock.yml"))


@given(
    dependencies=st.dictionaries(names, constraints, min_size=1, max_size=6),
    data=st.data(),
)
def test_order_spacing_case_and_comments_make_no_difference(tmp_path_factory, dependencies, data):
    folder = tmp_path_factory.mktemp("spec")
    plain = load(folder, "dependencies:\n" + "".join(f"  - '{n}{c}'\n" for n, c in dependencies.items()))
    lines = []
    for name, constraint in data.draw(st.permutations(sorted(dependencies.items()))):
        spaced = constraint.replace(">=", " >= ").replace(",", ", ") if data.draw(st.booleans()) else constraint
        spelled = name.upper() if data.draw(st.booleans()) else name
        lines.append(f"  - '{spelled}{spaced}'{data.draw(comments)}\n")
    decorated = load(folder, "# top\ndependencies:\n" + "\n".join(lines), "other.yml")
    assert decorated.content == plain.content


@given(dependencies=st.dictionaries(names, constraints, min_size=1, max_size=6), added=names)
def test_another_package_makes_a_difference(tmp_path_factory, dependencies, added):
    folder = tmp_path_factory.mktemp("spec")
    listed = [f"{name}{constraint}" for name, constraint in dependencies.items()]
    before = load(folder, f"dependencies: {json.dumps(listed)}")
    after = load(folder, f"dependencies: {json.dumps([*listed, added])}")
    assert (before.content == after.content) == (added in listed)
    assert after.dependencies == (*listed, added)


@given(name=names, constraint=constraints)
def test_a_match_spec_keeps_its_name_through_every_spelling(name, constraint):
    for text in (f"{name}{constraint}", f"conda-forge::{name}{constraint}", f"{name.upper()} {constraint}"):
        assert package_name(text) == name
        assert normalised(normalised(text)) == normalised(text)
    assert without_channel(f"conda-forge::{name}{constraint}") == f"{name}{constraint}"
