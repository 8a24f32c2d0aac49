"""The forge's files by their schemas; the shell of a release, and the audit, run for nothing."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from tests.support.forge import GITHUB, PROJECT, WORKFLOWS, steps
from tests.support.paths import ROOT

if find_spec("check_jsonschema") is None:
    # The lowest versions have none, and nothing here depends on them.
    pytest.skip("needs check-jsonschema", allow_module_level=True)
FORMS = sorted(
    set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
)
has_a_shell = pytest.mark.skipif(os.name == "nt", reason="needs a shell of POSIX")


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", list(WORKFLOWS.values())),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_are_valid_by_the_schema_of_their_kind(schema, files):
    assert files
    # In this process, because it takes seconds to be imported.
    import check_jsonschema

    arguments = ["--builtin-schema", schema, *map(str, files)]
    checked = CliRunner().invoke(check_jsonschema.main, arguments)
    assert checked.exit_code == 0, checked.output


# They agree with the rest of the repository


@has_a_shell
def test_a_tag_is_released_only_if_it_is_the_version_and_the_changelog_has_it(tmp_path):
    (check,) = [step["run"] for step in steps() if "changelog" in step.get("name", "")]
    version = PROJECT["version"]
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    changelog = tmp_path / "CHANGELOG.md"
    before, after = (
        "# Changelog\n\n## [Unreleased]\n\n- Later.\n\n",
        "## [0.0.1] - 2020-01-01\n\n- Old.\n",
    )
    changelog.write_text(f"{before}## [{version}] - 2030-01-01\n\n### Added\n\n- This.\n\n{after}")

    def released(tag):
        variables = {**os.environ, "GITHUB_REF_NAME": tag}
        command = [
            "bash",
            "-eo",
            "pipefail",
            "-c",
            check.replace("python -c", f"{sys.executable} -c"),
        ]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )

    assert released(f"v{version}").returncode == 0
    notes = (tmp_path / "dist" / "notes.md").read_text()
    assert notes.strip() == "### Added\n\n- This."
    assert "the version in pyproject.toml" in released(f"v{version}.1").stderr
    changelog.write_text(before + after)
    assert "has nothing to say" in released(f"v{version}").stderr


# Licences and vulnerabilities of what a release brings along


def of_package(**more):
    return json.dumps({"dependencies": [{"name": "wrapt", "version": "1", **more}]})


@has_a_shell
@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        (of_package(vulns=[]), 0, "1 packages, 0 known vulnerabilities"),
        (of_package(vulns=[{"id": "X-1", "fix_versions": ["2"]}]), 1, "wrapt 1: X-1, mended in 2"),
        (of_package(skip_reason="not found"), 2, "did not know 1 of 1 packages"),
        ("", 2, "NOT AUDITED: no route to host"),
        (None, 2, "NOT AUDITED: pip-audit is not installed"),
    ],
    ids=["nothing", "a vulnerability", "an unknown package", "no database", "no pip-audit"],
)
def test_an_audit_that_could_not_look_is_no_audit_that_found_nothing(tmp_path, output, code, said):
    if output is not None:
        program = tmp_path / "pip-audit"
        program.write_text(f"#!/bin/sh\necho no route to host >&2\ncat <<'END'\n{output}\nEND\n")
        program.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}/bin"}
    command = [sys.executable, "-m", "tools.audit"]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout
