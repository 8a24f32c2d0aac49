"""Measures the private memory of a worker of `gunicorn --preload`, with and without `gc.freeze`.

Workers share the pages that the master has filled, until one of them writes to a page. Python's
garbage collector writes to each object that it looks at, so that its first full collection in a
worker copies nearly all of them. `gc.freeze()` before the fork takes what is there away from it.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx
import psutil

from tests.support import pages
from verification.bench.goals import as_markdown
from verification.bench.variants import BARE, OURS, doubles, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.bench.variants import Variant

_GUNICORN: Final = (
    *("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "--workers", "1"),
    *("--worker-class", "uvicorn_worker.UvicornWorker", "--preload"),
)
_APP: Final = "verification.bench.preload_app:app"
_FREEZES: Final = "import gc\n\n\ndef pre_fork(server, worker):\n    gc.freeze()\n"
"""A configuration of gunicorn's."""
_SETTLED: Final = 2.0
_ROUNDS: Final = 10
_HEADINGS: Final = ("private memory of a worker, MB", "after requests", "after a full collection")


def _worker(variant: Variant, folder: Path, endpoint: str, options: Sequence[str]) -> list[float]:
    """Returns its private memory after requests, and after a full collection."""
    with running(variant, folder, endpoint, (*_GUNICORN, *options), _APP) as service:
        (worker,) = psutil.Process(service.process.pid).children()
        url = f"http://127.0.0.1:{service.port}"
        for path in ("/stream", "/stream/in-process", "/health", "/metrics") * _ROUNDS:
            httpx.get(f"{url}{path}", timeout=30)
        found: list[float] = []
        for path in ("/health", "/collect"):
            httpx.get(f"{url}{path}", timeout=30)
            time.sleep(_SETTLED)
            found.append(worker.memory_full_info().uss / 1e6)
        return found


def main() -> int:
    """Prints a row for each variant, without and with `gc.freeze`."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench.preload", description=__doc__
    )
    pages.add_write(parser)
    arguments = parser.parse_args()
    rows: list[Sequence[str]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="otel-coach-bench-")))
        endpoint = stack.enter_context(doubles())
        frozen = folder / "frozen.conf.py"
        frozen.write_text(_FREEZES)
        for name, options in (("", ()), (", gc.freeze() before the fork", ("-c", str(frozen)))):
            for variant in (BARE, OURS):
                figures = _worker(variant, folder, endpoint, options)
                rows.append((variant.name + name, *(f"{one:.1f}" for one in figures)))
    pages.show("bench-preload", as_markdown(rows, _HEADINGS), arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
