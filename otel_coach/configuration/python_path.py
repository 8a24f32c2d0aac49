"""PYTHONPATH, by which processes that this one starts are instrumented, too."""

from __future__ import annotations

import os
import sys


def import_first(folder: str) -> None:
    """Puts `folder` first on PYTHONPATH, and after it the current folder if it is not there yet.

    `opentelemetry-instrument` does the same. The current folder is added for commands such as
    uvicorn, whose `sys.path` begins with the folder of the command's own script.
    """
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    here = os.getcwd()  # noqa: PTH109 - without importing pathlib
    first = [folder] if here in paths else [folder, here]
    rest = [path for path in paths if path != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([*first, *rest])


def let_workers_be_instrumented() -> None:
    """Makes Python processes that this one starts, such as a server's workers, instrumented too.

    The command removes its folder from PYTHONPATH while it initialises, and versions before
    opentelemetry-instrumentation 0.65 do not put it back.
    """
    folder = os.path.dirname(getattr(sys.modules.get("sitecustomize"), "__file__", None) or "")  # noqa: PTH120 - without importing pathlib
    if os.path.basename(folder) != "auto_instrumentation":  # noqa: PTH119 - as above
        return  # not started by `opentelemetry-instrument`
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if folder not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *paths])
