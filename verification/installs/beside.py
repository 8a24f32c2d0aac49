"""Checks that otel-coach resolves beside the packages that public services have pinned.

`locks/NAME.txt` has all pins of the lock of the service NAME.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from verification.installs.environments import UV, InstallError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKS: Final = sorted((Path(__file__).parent / "locks").glob("*.txt"))

OUT_OF_REACH: Final = {
    "lightspeed-service": (
        "opentelemetry-instrumentation==0.61b0 depends on wrapt<2.0.0",
        "its OpenTelemetry 1.40 is too old for its own wrapt 2.1",
    ),
}
"""Locks that otel-coach cannot fit beside: what the resolver says, and the reason."""


def resolve(wheel: Path, lock: Path, folder: Path) -> Iterator[str]:
    """Yields the problems beside `lock`; one out of reach must fail, for the known reason."""
    reason, _ = OUT_OF_REACH.get(lock.stem, (None, None))
    for extra in ("", "[otlp]"):
        wanted = folder / "wanted.in"
        wanted.write_text(f"otel-coach{extra} @ {wheel.as_uri()}\n")
        command = [UV, "pip", "compile", "--quiet", "--python-version", "3.11", "--constraint"]
        try:
            run([*command, lock, wanted])
        except InstallError as error:
            output = " ".join(str(error).split())
            if reason is None or reason not in output:
                yield f"otel-coach{extra} does not resolve beside {lock.stem}: {error}"
        else:
            if reason is not None:
                yield f"otel-coach{extra} resolves beside {lock.stem} now: take it off the list"
