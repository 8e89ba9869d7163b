"""The files around the package: licence, citation, changelog, workflows, hooks."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
NAMES = ("CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")


def read_yaml(path: Path):
    return yaml.safe_load(path.read_text())


def test_the_licence_is_apache_2_and_is_named_in_the_metadata():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")
    assert PROJECT["license"] == metadata("lrnn-jax")["License-Expression"] == "Apache-2.0"


def test_the_citation_has_the_version_and_both_papers():
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    titles = " ".join(reference["title"] for reference in citation["references"])
    assert "Product-Structured Activations" in titles and "Beyond Width and Depth" in titles


def test_the_changelog_speaks_of_the_version():
    """Either as a released section, or as what the first release will have."""
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_files_and_the_extras_that_a_workflow_uses_exist(path):
    for job in read_yaml(path)["jobs"].values():
        for step in job["steps"]:
            command = step.get("run", "")
            for extras in re.findall(r"\.\[([a-z,]+)\]", command):
                assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
            for script in re.findall(r"(?:^|\s)(\.ci/\w+)", command):
                assert (ROOT / script).is_file()


def test_the_workflows_and_the_classifiers_have_the_same_pythons():
    jobs = read_yaml(ROOT / ".github" / "workflows" / "test.yml")["jobs"]
    classified = {
        words[-1]
        for words in (line.split(" :: ") for line in PROJECT["classifiers"])
        if re.fullmatch(r"3\.\d+", words[-1])
    }
    assert set(jobs["suite"]["strategy"]["matrix"]["row"]) == classified | {"lowest"}
    assert set(jobs["macos"]["strategy"]["matrix"]["python"]) == classified


def test_only_the_publishing_job_gets_an_identity():
    """Trusted publishing: a token of PyPI would otherwise be within reach of every step."""
    for path in WORKFLOWS:
        workflow = read_yaml(path)
        assert workflow["permissions"] == {"contents": "read"}, path
        for name, job in workflow["jobs"].items():
            identity = "id-token" in job.get("permissions", {})
            assert identity == (path.name == "release.yml" and name == "publish")


@pytest.mark.parametrize(
    "path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.name
)
def test_issue_forms_have_what_the_host_requires(path):
    form = read_yaml(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_hooks_have_the_ruff_of_the_project():
    (pin,) = [name for name in PROJECT["optional-dependencies"]["dev"] if name.startswith("ruff")]
    (repository,) = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    used = [hook["additional_dependencies"] for hook in repository["hooks"] if "ruff" in hook["id"]]
    assert used == [[pin]] * 2


@pytest.mark.parametrize("name", NAMES)
def test_links_of_the_community_files_exist(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target
