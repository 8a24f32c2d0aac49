"""Checks pip with an index in which one of OpenTelemetry's packages lacks its newest version.

OpenTelemetry's packages pin each other with `==`, and are not always uploaded together. A pip
before 25.1 that looks at the wrong package first does not find a solution. The public index may
have one such case at a time, or none; in the index made here, each package lacks its newest version
in turn. The wheels are empty; their names, versions and pins are those of OpenTelemetry.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final
from zipfile import ZipFile

from verification.installs.environments import InstallError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verification.installs.environments import Environment

_RELEASES: Final = (
    ("1.44.0", "0.65b0"),
    ("1.45.0", "0.66b0"),
    ("1.45.1", "0.66b1"),
    ("1.45.2", "0.66b2"),
)
"""The versions of the stable packages and of the betas that are released together."""

_STABLE: Final = {
    "api": (),
    "sdk": ("api=={stable}", "semantic-conventions=={beta}"),
    "proto": (),
    "exporter-otlp-proto-common": ("proto=={stable}",),
    "exporter-otlp-proto-http": (
        "api~=1.15",
        "sdk~={stable}",
        "proto=={stable}",
        "exporter-otlp-proto-common=={stable}",
    ),
}
_BETAS: Final = {
    "semantic-conventions": ("api=={stable}",),
    "exporter-prometheus": ("api~=1.12", "sdk~={stable}"),
    "instrumentation": ("api~=1.4", "semantic-conventions=={beta}"),
    "util-http": (),
    "instrumentation-asgi": (
        "api~=1.12",
        "instrumentation=={beta}",
        "semantic-conventions=={beta}",
        "util-http=={beta}",
    ),
    "instrumentation-dbapi": (
        "api~=1.12",
        "instrumentation=={beta}",
        "semantic-conventions=={beta}",
    ),
    "instrumentation-fastapi": (
        "api~=1.12",
        "instrumentation=={beta}",
        "instrumentation-asgi=={beta}",
        "semantic-conventions=={beta}",
        "util-http=={beta}",
    ),
    "instrumentation-psycopg": (
        "api~=1.12",
        "instrumentation=={beta}",
        "instrumentation-dbapi=={beta}",
    ),
}
_OTHERS: Final = {"prometheus-client": "0.26.0", "wrapt": "2.5.2"}

PACKAGES: Final = (*_STABLE, *_BETAS)


def write_index(folder: Path, wheel: Path) -> None:
    """Writes the whole index, with otel-coach's wheel, into `folder`."""
    shutil.copy(wheel, folder)
    for stable, beta in _RELEASES:
        for packages, version in ((_STABLE, stable), (_BETAS, beta)):
            for name, pins in packages.items():
                needs = [f"opentelemetry-{pin.format(stable=stable, beta=beta)}" for pin in pins]
                _write_wheel(folder, f"opentelemetry-{name}", version, needs)
    for name, version in _OTHERS.items():
        _write_wheel(folder, name, version, [])


def resolve(environment: Environment, index: Path) -> Iterator[str]:
    """Yields the problems when each package in turn lacks its newest version."""
    stable, beta = _RELEASES[-1]
    for name in PACKAGES:
        version = stable if name in _STABLE else beta
        lacking = index / _file_name(f"opentelemetry-{name}", version)
        hidden = lacking.rename(lacking.with_suffix(".hidden"))
        try:
            environment.installs(
                "--dry-run", "--no-index", "--find-links", index, "--quiet", "otel-coach[otlp]"
            )
        except InstallError as error:
            yield f"where opentelemetry-{name} lacks {version}, {environment.installer}: {error}"
        finally:
            hidden.rename(lacking)


def _write_wheel(folder: Path, name: str, version: str, needs: list[str]) -> None:
    information = f"{_module(name)}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    with ZipFile(folder / _file_name(name, version), "w") as archive:
        archive.writestr(f"{information}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(
            f"{information}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{information}/RECORD", "")


def _file_name(name: str, version: str) -> str:
    return f"{_module(name)}-{version}-py3-none-any.whl"


def _module(name: str) -> str:
    return re.sub(r"[-.]+", "_", name)
