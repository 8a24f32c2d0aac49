"""Fills the shared folder's disk and frees it: no counter may fall, no count may be lost."""

from __future__ import annotations

import errno
import resource
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import httpx

from otel_coach.testing import Page
from verification.soak.clients import Scraper
from verification.soak.parts import Outcome
from verification.soak.servers import SERVERS, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from verification.soak.servers import Running

_CALLS: Final = "agent_llm_requests_total"
_ASKED: Final = 10
_BYTES: Final = 512 * 1024


def run(seconds: float, _seed: int) -> Outcome:
    """Fills and frees the disk for `seconds`, at least once."""
    outcome, asked, rounds, stale = Outcome(), 0, 0, 0
    with TemporaryDirectory(prefix="oc-") as folder, _small_disk(Path(folder)) as is_real:
        environment = {"OTEL_COACH_SHARED_DIR": f"{folder}/shared"}
        with running(SERVERS["gunicorn"], environment=environment, workers=2) as service:
            _wait(Path(folder))
            scraper = Scraper(service.url)
            deadline = time.monotonic() + seconds
            while not rounds or time.monotonic() < deadline:
                rounds += 1
                for full in (False, True, False):
                    _fill(service, Path(folder), is_real=is_real, full=full)
                    for _ in range(_ASKED):
                        answer = httpx.get(f"{service.url}/ask/x")
                        outcome.check("an answer is no 200", unless=answer.status_code == 200)  # noqa: PLR2004
                        asked += 1
                    scraper.read()
                    page = Page(httpx.get(f"{service.url}/metrics").text)
                    shown = page.sum(_CALLS)
                    is_stale = "cannot write" in page.text
                    stale += is_stale
                    outcome.check("a full disk is not said", unless=is_stale or not full)
                    outcome.check(f"{shown} of {asked}", unless=full or shown == asked)
            outcome.problems += [f"fell: {line}" for line in scraper.fallen]
            log = service.program.log.read_text()
            outcome.check("a traceback in the log", unless="Traceback" not in log)
        left = [*(Path(folder) / "shared").rglob("*")]
        outcome.problems += [f"left behind: {path}" for path in left]
    outcome.figures = {
        "a disk of its own": is_real,
        "rounds": rounds,
        "answers": asked,
        "pages that say so": stale,
        "falls": len(scraper.fallen),
        "files after the end": len(left),
    }
    return outcome


def _wait(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while len([*folder.rglob("*.snapshot")]) < 2:  # noqa: PLR2004 - both workers
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


@contextmanager
def _small_disk(folder: Path) -> Generator[bool]:
    """Mounts a small disk at `folder`; yields whether it could, or else RLIMIT_FSIZE must do."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES},mode=700", "none", folder]
    is_real = not subprocess.run(mount, check=False, capture_output=True).returncode  # noqa: S603
    try:
        yield is_real
    finally:
        if is_real:
            subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S603, S607


def _fill(service: Running, folder: Path, *, is_real: bool, full: bool) -> None:
    filler = folder / "filler"
    if is_real and not full:
        filler.unlink(missing_ok=True)
    elif is_real:
        try:
            filler.write_bytes(bytes(2 * _BYTES))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    else:
        for worker in service.workers():
            with suppress(ProcessLookupError):
                _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
                limit = 1 if full else hard
                resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (limit, hard))
