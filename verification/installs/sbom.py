"""Writes a software bill of materials of a release as CycloneDX JSON.

It lists what `pip install otel-coach` installs on this version of Python, without extras, in the
versions of the lock: each package with its licence and the packages that depend on it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from verification.installs.distributions import ROOT


def closure(name: str = "otel-coach", extras: frozenset[str] = frozenset()) -> set[str]:
    """Returns the names of all packages that `name` depends on here, directly or indirectly."""
    found: set[tuple[str, frozenset[str]]] = set()
    _add(found, name, extras)
    return {needed for needed, _ in found}


def _add(found: set[tuple[str, frozenset[str]]], name: str, extras: frozenset[str]) -> None:
    for requirement in map(Requirement, distribution(name).requires or ()):
        environments = [{"extra": extra} for extra in ("", *extras)]
        marker = requirement.marker
        if marker is not None and not any(map(marker.evaluate, environments)):
            continue
        needed = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if needed not in found:
            found.add(needed)
            _add(found, *needed)


def write(path: Path) -> None:
    """Writes it to `path`; cyclonedx-py validates it against the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="otel-coach-sbom-") as folder:
        # An environment with these packages only, made of this one's metadata, without the network.
        venv.create(folder)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        for name in closure():
            metadata = Path(str(distribution(name).locate_file("")), _metadata_of(name))
            (packages / metadata.name).symlink_to(metadata)
        command = [sys.executable, "-m", "cyclonedx_py", "environment"]
        options = ["--mc-type", "library", "--output-reproducible", "--validate"]
        options += ["--pyproject", ROOT / "pyproject.toml", "--output-file", path, folder]
        subprocess.run([*command, *options], check=True)  # noqa: S603 - a module of this environment


def _metadata_of(name: str) -> str:
    """Returns the folder NAME-VERSION.dist-info of a package."""
    files = distribution(name).files or ()
    return next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.installs.sbom", description=__doc__
    )
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    write(path)
    print(f"{path} has {len(closure())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
