"""Looks for known vulnerabilities in all that otel-coach brings along, its extras included.

Exit code 0: none is known. 1: some are. 2: pip-audit is missing, or could not look everything up.
`make audit` runs it, on the versions that this environment has installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypedDict, cast

from tools.licences import EXTRAS
from verification.installs.sbom import closure

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTIONS: Final = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")

_HOW_TO: Final = """\
To audit: `uv tool install pip-audit`, then `make audit` where the package index itself, not a
mirror, can be reached; PIP_AUDIT_VULNERABILITY_SERVICE=osv asks OSV instead.
"""


class _Vulnerability(TypedDict):
    id: str
    fix_versions: list[str]


class _Package(TypedDict, total=False):
    name: str
    version: str
    skip_reason: str
    vulns: list[_Vulnerability]


def main() -> int:
    """Look, and say what came of it."""
    here = Path(sys.executable).parent
    program = shutil.which("pip-audit", path=f"{here}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        return _not_looked("pip-audit is not installed")
    with TemporaryDirectory(prefix="otel-coach-audit-") as folder:
        pins = Path(folder, "pins.txt")
        names = sorted(closure(extras=EXTRAS))
        pins.write_text("".join(f"{name}=={version(name)}\n" for name in names))
        done = subprocess.run(  # noqa: S603 - a program that the developer installed
            [program, *_OPTIONS, "--requirement", pins], capture_output=True, text=True, check=False
        )
    try:
        packages = cast("list[_Package]", json.loads(done.stdout)["dependencies"])
    except ValueError:  # it says why at the end, below its own stack
        return _not_looked((done.stderr.strip() or "it said nothing").splitlines()[-1])
    return _judged(packages)


def _judged(packages: Sequence[_Package]) -> int:
    found = [(one, flaw) for one in packages for flaw in one.get("vulns", [])]
    for one, flaw in found:
        mended = ", ".join(flaw["fix_versions"]) or "no version yet"
        sys.stdout.write(
            f"{one.get('name')} {one.get('version')}: {flaw['id']}, mended in {mended}\n"
        )
    # A package that the database does not know is no package without vulnerabilities.
    unknown = [one.get("name", "") for one in packages if "skip_reason" in one]
    if unknown and not found:
        return _not_looked(f"its database did not know {len(unknown)} of {len(packages)} packages")
    sys.stdout.write(
        f"{len(packages) - len(unknown)} packages, {len(found)} known vulnerabilities\n"
    )
    return 1 if found else 0


def _not_looked(why: str) -> int:
    sys.stdout.write(f"NOT AUDITED: {why}\n")
    sys.stdout.write(_HOW_TO)
    return 2


if __name__ == "__main__":
    sys.exit(main())
