"""What a release is made of and brings along, and whether docs name tests that are there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_packaging import PROJECT, PYPROJECT, ROOT, named

import otel_coach
from installs import sbom

# What builds it, and what it brings along

LOCKS = sorted(ROOT.glob("requirements-*.txt"))


def pinned(lock):
    """The version of each distribution of a lock; each has the hashes of its files."""
    entries = re.findall(
        r"^([\w.-]+)==([^\s;]+)[^\n\\]*((?:\\\n[^\n\\]*)*)$", lock.read_text(), re.MULTILINE
    )
    assert all("--hash=sha256:" in hashes for _, _, hashes in entries)
    return {canonicalize_name(name): version for name, version, _ in entries}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_what_builds_it_is_pinned_in_every_lock_that_it_is_installed_from(lock):
    pins = pinned(lock)
    # An editable install by hatchling needs editables, which it asks for when it builds.
    for requirement in map(Requirement, [*PYPROJECT["build-system"]["requires"], "editables"]):
        assert requirement.specifier.contains(pins[requirement.name])


def test_nothing_builds_with_a_backend_that_nobody_pinned():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    building = re.compile(
        r"-m build\b|pip wheel|uv build|pyproject-build|--editable \.|-e \.(?=\s|$)"
    )
    found = {
        (name, line.strip())
        for name in files
        if not name.startswith(("tests/", "docs/")) and not name.endswith((".md", ".json", ".png"))
        for line in (ROOT / name).read_text(errors="replace").splitlines()
        if building.search(line) and "--no-build-isolation" not in line
    }
    assert found == set()
    # The image builds in isolation, from the files of the lock alone.
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    (install,) = [line for line in dockerfile.splitlines() if "'.[otlp]'" in line]
    assert "--no-index --find-links /wheels" in install


def test_the_bill_of_materials_is_valid_and_is_what_is_installed(tmp_path):
    path = tmp_path / "bill.json"
    sbom.write(path)  # raises where it is not valid by its schema, which takes its time
    bill = json.loads(path.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("otel-coach", otel_coach.__version__)
    versions = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    # As uv walks it.
    uv = Path(sys.executable).parent / "uv"
    command = [
        uv,
        "pip",
        "tree",
        "--python",
        sys.executable,
        "--package",
        "otel-coach",
        "--no-dedupe",
    ]
    tree = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    walked = dict(re.findall(r"([\w.-]+) v(\S+)", tree))
    assert {"otel-coach": otel_coach.__version__, **versions} == {
        canonicalize_name(name): version for name, version in walked.items()
    }
    assert versions.items() <= pinned(ROOT / "requirements-dev.txt").items()
    assert all(one["licenses"] and one["purl"] for one in bill["components"])
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    direct = {canonicalize_name(one.partition("==")[0]) for one in needs[root["bom-ref"]]}
    assert direct == named(PROJECT["dependencies"])


# What docs promise

TOLD = [
    (page.name, name)
    for page in (ROOT / "docs" / "security.md", ROOT / "docs" / "threat-model.md")
    for name in sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", page.read_text())))
]


@pytest.mark.parametrize(("page", "name"), TOLD)
def test_each_test_that_a_page_names_is_there(page, name):
    file, _, function = name.partition("::")
    found = ROOT / "tests" / file
    assert found.is_file()
    assert re.search(
        rf"^def {function}\(" if function else r"^(?:async )?def test_",
        found.read_text(),
        re.MULTILINE,
    )


def test_each_row_of_the_threat_model_names_a_test():
    text = (ROOT / "docs" / "threat-model.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "held by" not in line]
    assert len(rows) > 20
    assert all("`test_" in row.split("|")[-2] for row in rows)
