"""Processes of their own: for what is counted, and for what sees the machine otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT, TESTS


def open_to_all(place, *more):
    """The beginning of a command, which then sees the machine with other mounts; root's to use.

    Where Python or this repository lie in a folder that only root can look into, all can there.
    `place` is for what that needs; `more` are commands of a shell that follow.
    """
    lines = ["set -e", "umask 022"]
    for number, needed in enumerate(dict.fromkeys((Path(sys.base_prefix), ROOT))):
        closed = [folder for folder in needed.parents if not folder.stat().st_mode & 0o001]
        if closed:
            aside = place / f"aside-{number}"
            lines += [
                f"mkdir {aside}",
                f"mount --bind {needed} {aside}",
                f"mount -t tmpfs -o mode=755 none {closed[-1]}",
                f"mkdir -p {needed}",
                f"mount --move {aside} {needed}",
            ]
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, *more, 'exec "$@"']), "sh"]


def alone(function):
    """What `function` returns in a process of its own; it travels as JSON.

    For what counts objects or bytes: here, threads of other tests would add theirs, and Python's
    table of interned strings, which grows once in a long suite, takes megabytes at that moment.
    """
    module, name = function.__module__, function.__name__
    script = f"import json; from {module} import {name}; print(json.dumps({name}()))"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert not found.returncode, found.stderr
    return json.loads(found.stdout)
