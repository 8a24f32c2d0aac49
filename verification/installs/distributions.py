"""Builds wheel and sdist, and checks that they contain the right files."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

from otel_coach.cli.shipped_files import PLACES
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_MINUTE: Final = 60
_CONFIGURATIONS: Final = {f"otel_coach/monitoring/{name}" for name in PLACES}
"""What `otel-coach collector|dashboard|rules` print, from elsewhere in the repository."""
_BESIDE_THE_PACKAGE: Final = {
    ".gitignore",  # hatchling always includes it
    "CHANGELOG.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
    *PLACES.values(),
}


@dataclass(frozen=True)
class Distributions:
    """The files that a release uploads."""

    wheel: Path
    sdist: Path


def build(folder: Path) -> Distributions:
    """Builds both from this repository into `folder`."""
    sdist = _built("sdist", ROOT, folder)
    return Distributions(wheel=_built("wheel", ROOT, folder), sdist=sdist)


def problems_of(built: Distributions, folder: Path) -> list[str]:
    """Returns the problems with their content; unpacks the sdist into `folder`."""
    package = _below("otel_coach")
    found = _difference(
        "wheel",
        package | _CONFIGURATIONS,
        {n for n in _files(built.wheel) if ".dist-info/" not in n},
    )
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    names = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    found += _difference("sdist", package | _BESIDE_THE_PACKAGE, names)
    again = _built("wheel", unpacked, folder)
    if _files(again) != _files(built.wheel):
        found.append("the sdist makes another wheel than the repository")
    return found


def _built(kind: str, source: Path, folder: Path) -> Path:
    subprocess.run(  # noqa: S603 - a program of the development environment; it needs no network
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", folder],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=_MINUTE,
    )
    (written,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return written


def _files(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _below(folder: str) -> set[str]:
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}


def _difference(kind: str, expected: set[str], names: set[str]) -> list[str]:
    return [
        *(f"the {kind} lacks {name}" for name in sorted(expected - names)),
        *(f"the {kind} has {name}" for name in sorted(names - expected)),
    ]
