"""What a release is made of and brings along, as programs list it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import otel_coach
from tests.support.paths import ROOT
from tests.support.pyproject import PROJECT, named, pinned
from verification.installs import sbom

# What builds it, and what it brings along


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


@pytest.mark.long
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
