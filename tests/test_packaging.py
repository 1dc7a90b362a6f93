"""Facts that several files must tell: versions, requirements, and the commands that workflows run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import fastconv

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPE: dict[str, Any] = yaml.safe_load((ROOT / "packaging/recipe.yaml").read_text())
#: The extras that the oldest packages are tested with: the test command's own.
TESTED = "test", "cli", "examples", "bench", "dask"


def bounds(requirements: list[str]) -> dict[str, Version]:
    """The lowest version of each package that has one."""
    found = [Requirement(one) for one in requirements]
    return {one.name: Version(bound.version) for one in found for bound in one.specifier if bound.operator == ">="}


def test_the_version_is_the_installed_packages() -> None:
    assert fastconv.__version__ in (PROJECT["version"], "0+unknown")
    with pytest.raises(AttributeError, match="no attribute '__versions__'"):
        getattr(fastconv, "__versions__")  # noqa: B009 # a type checker knows that there is none


def test_the_oldest_versions_are_those_that_the_project_admits() -> None:
    admitted = bounds(PROJECT["dependencies"])
    for extra in TESTED:
        admitted |= bounds(PROJECT["optional-dependencies"][extra])
    lines = [line for line in (ROOT / "packaging/oldest.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {name: Version(version) for name, version in (line.split("==") for line in lines)}
    assert pinned == admitted


def test_the_recipe_agrees_with_the_project() -> None:
    assert RECIPE["context"]["version"] == PROJECT["version"]
    python = RECIPE["context"]["python_min"]
    assert PROJECT["requires-python"] == f">={python}"
    run = [one.replace("${{ python_min }}", python) for one in RECIPE["requirements"]["run"]]
    needed = [*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"]
    assert sorted(one.replace(" ", "") for one in run) == sorted(needed)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {*build} <= {one.replace(" ", "") for one in RECIPE["requirements"]["host"]}
    scripts = [f"{name} = {where}" for name, where in PROJECT["scripts"].items()]
    assert RECIPE["build"]["python"]["entry_points"] == scripts
    assert (RECIPE["about"]["license"], RECIPE["about"]["summary"]) == (PROJECT["license"], PROJECT["description"])


def test_the_citation_agrees_with_the_project() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["license"] == PROJECT["license"]
    assert [one["name"] for one in cited["authors"]] == [one["name"] for one in PROJECT["authors"]]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_the_changelog_has_the_version() -> None:
    headings = re.findall(r"^## \[?([\w.]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == PROJECT["version"]


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda file: file.stem)
def test_workflows_run_what_everybody_can(file: Path) -> None:
    """Each step is an action, a script of .ci, or a command of the README."""
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        script = re.fullmatch(r"bash (\.ci/\w+)", command)
        assert (script and (ROOT / script[1]).is_file()) or command.startswith("grep -m 1 sphinx-build README.md")
    for job in jobs:
        for one in job.get("strategy", {}).get("matrix", {}).get("include", ()):
            assert (ROOT / one.get("constraint", ".")).exists()
            assert Version(one["python"]) >= Version(RECIPE["context"]["python_min"])
