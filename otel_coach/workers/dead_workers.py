"""The merged metrics of workers that have ended, in one file that also lists those workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_coach.workers.shared_dir import SharedDirError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.workers.run_dir import RunDir

_FILE: Final = "dead"
_MAX_NAMES: Final = 1000


def read_dead_workers(folder: RunDir) -> tuple[list[str], bytes | None]:
    """Returns the names and the metrics of the workers in the file; [] and None without a file.

    Raises:
        OSError: the file cannot be read, or is damaged (SharedDirError). Then there must be no
            page: without these values counters would drop, which Prometheus takes for a reset. It
            would then count the remaining values a second time.
    """
    path = folder.path / _FILE  # for messages
    try:
        header, _, content = folder.file(_FILE).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return [], None
    names: Any = None
    try:
        names = json.loads(header)
    except ValueError as error:
        message = f"{path} is damaged"
        raise SharedDirError(message) from error
    if not isinstance(names, list):
        message = f"{path} is damaged"
        raise SharedDirError(message)
    return names, content


def write_dead_workers(folder: RunDir, names: Sequence[str], content: bytes) -> None:
    """Replaces the file; of `names`, the last 1000 are kept.

    Raises:
        OSError: the file cannot be written; the old one is kept.
    """
    header = json.dumps(names[-_MAX_NAMES:]).encode()
    folder.write(folder.file(_FILE), header + b"\n" + content)
