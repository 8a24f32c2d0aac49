"""What GitHub reads of the repository, and the programs that a release asks: without a network."""

import re
from importlib.util import find_spec

import pytest
import yaml

from tests.support.forge import GITHUB, PROJECT, READ, WORKFLOWS, jobs, steps
from tests.support.paths import ROOT
from tools import licences
from verification.installs.sbom import closure

if find_spec("check_jsonschema") is None:
    pytest.skip(
        "the lowest versions have none, and nothing here depends on them", allow_module_level=True
    )
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
# The rights of jobs that have more than to read.
WRITES = {
    ("release.yml", "attest"): {"id-token", "attestations"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "announce"): {"contents"},
}


def scripts():
    return "\n".join(step["run"] for step in steps() if "run" in step)


# The files are what GitHub takes them for


def test_what_templates_link_to_is_there():
    pages = [*(GITHUB / "ISSUE_TEMPLATE").iterdir(), GITHUB / "pull_request_template.md"]
    text = "".join(page.read_text("utf-8") for page in pages)
    linked = re.findall(r"https://github\.com/otel-coach/otel-coach/blob/main/([\w./-]+)", text)
    assert linked
    assert [path for path in linked if not (ROOT / path).is_file()] == []


# What a workflow may do


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_says_what_it_may_do_and_by_default_may_at_most_read(name):
    permissions = READ[name]["permissions"]
    assert permissions in ({}, {"contents": "read"})


def test_a_job_writes_only_what_it_is_there_for():
    writes = {
        (name, job): {kind for kind, access in content["permissions"].items() if access == "write"}
        for name, job, content in jobs()
        if "permissions" in content
    }
    assert {job: kinds for job, kinds in writes.items() if kinds} == WRITES


def test_only_the_jobs_that_need_an_identity_have_one_and_they_run_no_code_of_the_repository():
    for name, job, content in jobs():
        if (name, job) in WRITES:
            assert not [
                one for one in content["steps"] if "actions/checkout" in one.get("uses", "")
            ]
    assert READ["release.yml"]["jobs"]["publish"]["environment"] == "pypi"
    assert {"test", "build"} <= set(READ["release.yml"]["jobs"]["attest"]["needs"])
    assert READ["release.yml"]["jobs"]["publish"]["needs"] == "attest"


def test_nothing_of_a_stranger_runs_with_the_repositorys_rights():
    for path in WORKFLOWS.values():
        text = path.read_text("utf-8")
        assert "pull_request_target" not in text
        assert "workflow_run" not in text
        assert "secrets." not in text
    # An expression's value is put into the script first, and is code to the shell then.
    assert "${{" not in scripts()


def test_a_checkout_leaves_no_token_behind():
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_of_others_are_pinned_by_commit_with_their_version_beside(name):
    uses = re.findall(r"uses: (?!\./)(.+)", WORKFLOWS[name].read_text("utf-8"))
    assert uses
    unpinned = [one for one in uses if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)]
    assert unpinned == []


def test_no_job_runs_for_hours():
    timeouts = [content["timeout-minutes"] for _, _, content in jobs() if "steps" in content]
    assert max(timeouts) <= 90


def test_one_action_has_one_version():
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS.values())
    versions = {}
    for action, version in re.findall(r"uses: (?!\./)(\S+)@(.+)", text):
        versions.setdefault(action, set()).add(version)
    assert [action for action, found in versions.items() if len(found) > 1] == []


# They agree with the rest of the repository


def claimed_versions():
    """Versions of Python: the classifiers', README's, and that of the Debian that make brings."""
    prefix = "Programming Language :: Python :: "
    classifiers = {one.removeprefix(prefix) for one in PROJECT["classifiers"] if prefix in one}
    readme = (ROOT / "README.md").read_text("utf-8")
    (cell,) = re.findall(r"^\| Python \| ([^|]*) \|", readme, re.MULTILINE)
    minors = [int(minor) for minor in re.findall(r"\b3\.(\d+)", cell)]
    spelt = {f"3.{minor}" for minor in range(min(minors), max(minors) + 1)}
    return classifiers | spelt | set(re.findall(r"make test-on-(3\.\d+)$", MAKEFILE, re.MULTILINE))


def test_unit_tests_run_on_each_system_and_each_python_that_is_claimed():
    matrix = READ["ci.yml"]["jobs"]["unit"]["strategy"]["matrix"]
    assert set(matrix["python"]) == claimed_versions()
    assert f">={min(matrix['python'])}" == PROJECT["requires-python"]
    assert {one.partition("-")[0] for one in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_everything_runs_too():
    assert "bash .ci/run" in scripts().splitlines()
    assert (ROOT / ".ci" / "run").is_file()


def test_make_knows_each_target_that_is_called():
    called = {
        word
        for line in re.findall(r"^\s*make (.+)$", scripts(), re.MULTILINE)
        for word in line.split()
        if "=" not in word
    }
    assert {"test-fast", "sbom"} <= called
    targets = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
    assert called - targets == set()


def test_the_changelog_has_the_headings_that_a_release_looks_for():
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    form = re.compile(r"\[\d+\.\d+\.\d+\w*\] - \d{4}-\d{2}-\d{2}( \[YANKED\])?")
    assert [one for one in headings[1:] if not form.fullmatch(one)] == []


def test_dependabot_touches_no_floor():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))["updates"]
    assert {one["package-ecosystem"] for one in updates} == {"pip", "github-actions"}
    (pip,) = [one for one in updates if one["package-ecosystem"] == "pip"]
    assert pip["versioning-strategy"] == "lockfile-only"
    assert "requirements-lowest.txt" in pip["exclude-paths"]


# Licences and vulnerabilities of what a release brings along


def test_all_that_comes_along_has_a_licence_that_any_service_can_live_with():
    everything = closure(extras=licences.EXTRAS)
    assert PROJECT["optional-dependencies"].keys() == licences.EXTRAS
    found = {name: licences.licence_of(name) for name in everything}
    assert {name: one for name, one in found.items() if not licences.is_fine(name, one)} == {}
    assert licences.ACCEPTED.keys() <= found.items()


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("(Apache-2.0 OR MIT) AND BSD-3-Clause", True),
        ("GPL-3.0-only", False),
        ("MIT AND LGPL-2.1-or-later", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("MPL-2.0", False),
        ("none stated", False),
    ],
)
def test_a_licence_is_fine_if_each_part_of_it_is(licence, fine):
    assert licences.is_fine("a-package", licence) is fine
