"""Wheel and sdist, and whether the right things are in them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import ZipFile

ROOT: Final = Path(__file__).parent.parent
_MINUTE: Final = 60
_BESIDE_THE_PACKAGE: Final = {
    ".gitignore",  # hatchling's own wish
    "CHANGELOG.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
}


@dataclass(frozen=True)
class Distributions:
    """What would be uploaded."""

    wheel: Path
    sdist: Path


def build(folder: Path) -> Distributions:
    """Both, from this repository, into `folder`."""
    sdist = _built("sdist", ROOT, folder)
    return Distributions(wheel=_built("wheel", ROOT, folder), sdist=sdist)


def problems_of(built: Distributions, folder: Path) -> list[str]:
    """What is wrong with their content; `folder` is for the sdist's."""
    package = _below("otel_coach")
    found = _difference(
        "wheel", package, {n for n in _files(built.wheel) if ".dist-info/" not in n}
    )
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    names = {str(one.relative_to(unpacked)) for one in unpacked.rglob("*") if one.is_file()}
    found += _difference("sdist", package | _BESIDE_THE_PACKAGE, names)
    again = _built("wheel", unpacked, folder)
    if _files(again) != _files(built.wheel):
        found.append("the sdist makes another wheel than the repository")
    return found


def _built(kind: str, source: Path, folder: Path) -> Path:
    subprocess.run(  # noqa: S603 - of the development environment, without the network
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
    files = (one for one in (ROOT / folder).rglob("*") if one.is_file())
    return {str(one.relative_to(ROOT)) for one in files if one.suffix != ".pyc"}


def _difference(kind: str, expected: set[str], names: set[str]) -> list[str]:
    return [
        *(f"the {kind} lacks {name}" for name in sorted(expected - names)),
        *(f"the {kind} has {name}" for name in sorted(names - expected)),
    ]
