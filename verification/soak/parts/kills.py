"""Kills workers, at random or while they write: no counter may fall, no file may be left."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_coach.prometheus.snapshot import from_bytes
from verification.soak.clients import Scraper, Users
from verification.soak.parts import Outcome
from verification.soak.servers import SERVERS, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_LOOK: Final = 0.5
"""Seconds for which a file that is being written is looked for."""
_MAX_PAUSE: Final = 2.0
"""Seconds between two kills: long enough for new workers to serve in between."""
_FOLD_TIME: Final = 6.0
"""Seconds: three times the interval at which the files of ended workers are merged."""
_ENDED: Final = (".lock", ".snapshot", ".sock", ".new")


def run(seconds: float, seed: int) -> Outcome:
    """Kills workers for `seconds`."""
    chance, outcome = random.Random(seed), Outcome()  # noqa: S311 - a plan, no secret
    kills = while_writing = unfinished = 0
    with running(SERVERS["gunicorn --preload"]) as service:
        service.wait()
        users, scraper = Users(service.url), Scraper(service.url)
        with scraper.reading(), users.asking():
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline or not while_writing:
                time.sleep(chance.random() * _MAX_PAUSE)
                if chance.random() < 0.5:  # noqa: PLR2004 - half of them
                    victims = [worker.pid for worker in service.workers()]
                    written = None
                else:
                    written = next(_being_written(service.shared), None)
                    victims = [] if written is None else [_writer(written)]
                with suppress(ProcessLookupError, IndexError):  # the worker has ended by itself
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    kills += 1
                    while_writing += written is not None
                    unfinished += written is not None and _is_unfinished(written)
                if time.monotonic() > deadline + 9 * seconds:
                    break
        time.sleep(_FOLD_TIME)
        service.wait()
        left = _of_ended_workers(service.shared, {worker.pid for worker in service.workers()})
        scraper.read()
        outcome.check("no kill came while somebody wrote", unless=while_writing > 0)
        outcome.problems += [f"fell: {line}" for line in scraper.fallen]
        outcome.problems += [f"of an ended worker: {name}" for name in left]
        shared = service.shared
        service.program.stop()
        after = [*shared.rglob("*")]
        outcome.problems += [f"left behind: {path}" for path in after]
    outcome.figures = {
        "kills": kills,
        "while it wrote": while_writing,
        "unfinished files": unfinished,
        "answers": users.answers(),
        "scrapes": scraper.scrapes,
        "falls": len(scraper.fallen),
        "files of ended workers": len(left),
        "files after the end": len(after),
    }
    return outcome


def _being_written(shared: Path) -> Iterator[Path]:
    """Yields files that do not have their final name yet, and files that are growing."""
    deadline = time.monotonic() + _MAX_LOOK
    (folder,) = shared.iterdir()
    sizes: dict[str, int] = {}
    while time.monotonic() < deadline:
        for file in os.scandir(folder):
            if file.name.endswith(".new"):
                yield folder / file.name
            elif file.name.endswith(".snapshot"):
                with suppress(FileNotFoundError):
                    size = file.stat().st_size
                    if sizes.setdefault(file.name, size) != size:
                        yield folder / file.name


def _writer(written: Path) -> int:
    """Returns the pid in `PID-TOKEN.snapshot`, `NAME.PID-TOKEN.new` or a new lock's name."""
    return int(written.stem.rpartition(".")[2].partition("-")[0])


def _is_unfinished(written: Path) -> bool:
    """Whether the file has no final name, or its last block is incomplete."""
    try:
        content = written.read_bytes()
    except FileNotFoundError:
        return False
    return written.suffix == ".new" or from_bytes(content)[1] < len(content)


def _of_ended_workers(shared: Path, living: set[int]) -> list[str]:
    """Returns files of ended workers found by both of two looks: others are just being written."""
    looks: list[set[str]] = []
    for _ in range(2):
        looks.append(
            {
                path.name
                for path in shared.rglob("*")
                if path.name.endswith(_ENDED) and int(path.name.partition("-")[0]) not in living
            }
        )
        time.sleep(0.2)
    return sorted(set.intersection(*looks))
