"""The figures of all workers that are dead and forgotten, in one file that names them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_coach.workers.base_folder import FolderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.workers.folder import Folder

_FILE: Final = "retired"
_MOST_NAMES: Final = 1000


def read_retired(folder: Folder) -> tuple[list[str], bytes | None]:
    """Whose figures they are, and the figures; nobody's and None where nobody has died yet.

    Raises:
        OSError: they cannot be read, or are damaged. Nobody can make up for them then: a page
            without them would show counters that fell, which Prometheus takes for ones that began
            anew, and would count all the others a second time. So there is no page.
    """
    path = folder.path / _FILE  # to a person
    try:
        header, _, content = folder.file(_FILE).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return [], None
    names: Any = None
    try:
        names = json.loads(header)
    except ValueError as error:
        message = f"{path} is damaged"
        raise FolderError(message) from error
    if not isinstance(names, list):
        message = f"{path} is damaged"
        raise FolderError(message)
    return names, content


def write_retired(folder: Folder, names: Sequence[str], content: bytes) -> None:
    """Replace what was there.

    Raises:
        OSError: it cannot be written; what was there is there.
    """
    header = json.dumps(names[-_MOST_NAMES:]).encode()
    folder.write(folder.file(_FILE), header + b"\n" + content)
