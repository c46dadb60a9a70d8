"""Version rules in pip's words and in conda's allow the same releases."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from rattler import Version as CondaVersion
from rattler import VersionSpec

from tools.errors import PackageError
from tools.image.versions import Target, conda_spec, pip_spec

numbers = st.integers(0, 12)
releases = st.lists(numbers, min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
epochs = st.sampled_from(["", "", "1!"])
versions = st.builds(str.__add__, epochs, releases)
plain = st.builds(str.__add__, st.sampled_from(["==", "!=", ">=", "<=", "<", ">", "==="]), versions)
wildcard = st.builds(lambda operator, version: f"{operator}{version}.*", st.sampled_from(["==", "!="]), versions)
compatible = st.lists(numbers, min_size=2, max_size=4).map(lambda parts: f"~={'.'.join(map(str, parts))}")
specifiers = st.lists(plain | wildcard | compatible, max_size=3).map(lambda parts: SpecifierSet(",".join(parts)))


def allowed_by_conda(spec: str, version: str) -> bool:
    return not spec or VersionSpec(spec).matches(CondaVersion(version))


@given(specifiers, versions)
@example(SpecifierSet("~=1.4.2"), "1.5")
@example(SpecifierSet("==1.4.*"), "1.40")
@example(SpecifierSet("!=1.4.*,>=1"), "1.4.7")
def test_a_pip_rule_allows_the_same_releases_in_conda(rule: SpecifierSet, version: str) -> None:
    if any(specifier.operator == "===" for specifier in rule):
        return  # compares texts: 1.0 is not 1 there
    assert allowed_by_conda(conda_spec(rule), version) == rule.contains(version)


conda_clauses = st.builds(str.__add__, st.sampled_from(["==", "!=", ">=", "<=", "<", ">", "="]), versions) | st.builds(
    lambda operator, version: f"{operator}{version}.*", st.sampled_from(["", "=", "!="]), versions
)


@given(st.lists(conda_clauses, min_size=1, max_size=3).map(",".join), versions)
@example("=1.26", "1.26.4")
@example("1.26.*", "1.27")
def test_a_conda_rule_allows_the_same_releases_in_pip(rule: str, version: str) -> None:
    assert pip_spec(rule).contains(version) == allowed_by_conda(rule, version)


@pytest.mark.parametrize("rule", ["1.0|2.0", "*", "1.*.3", "", None])
def test_a_conda_rule_that_pip_cannot_say_holds_nothing_back(rule: str | None) -> None:
    assert pip_spec(rule) == SpecifierSet()


@pytest.mark.parametrize(
    ("rule", "conda"),
    [("==2.13.0+cpu", "==2.13.0"), ("~=1.4.2", "<1.5,>=1.4.2"), ("==1!2.*", "<1!3,>=1!2"), (">=1.0rc1", ">=1.0rc1")],
)
def test_rules_as_they_are_written(rule: str, conda: str) -> None:
    assert conda_spec(SpecifierSet(rule)) == conda


def test_wheels_for_glibc_are_known_by_their_old_and_new_names() -> None:
    platforms = list(Target(python="3.11", subdir="linux-64").platforms(glibc=36))
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert {"manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(platforms)
    assert "manylinux1_aarch64" not in set(Target(python="3.11", subdir="linux-aarch64").platforms())


def test_the_stable_abi_of_older_pythons_runs_on_this_one() -> None:
    tags = Target(python="3.11.2", subdir="linux-64").tags
    assert Tag("cp38", "abi3", "manylinux_2_17_x86_64") in tags
    assert Tag("cp312", "abi3", "manylinux_2_17_x86_64") not in tags


def test_a_platform_without_wheels_here_is_named() -> None:
    with pytest.raises(PackageError, match="osx-arm64"):
        Target(python="3.11", subdir="osx-arm64")
