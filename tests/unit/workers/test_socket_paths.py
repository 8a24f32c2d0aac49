"""Temporary folders whose path is too long for a socket."""

import os
import tempfile
from pathlib import Path

from otel_coach.workers import run_dir, shared_dir
from otel_coach.workers.supervisor import Supervisor


def test_a_long_temporary_folder_as_on_macos_is_left_for_a_short_one(monkeypatch):
    """There, `TMPDIR` has 48 characters, and nothing like /proc/self/fd makes a path shorter."""
    with tempfile.TemporaryDirectory() as root:
        long = Path(root) / ("T" * (48 - len(root)))
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        monkeypatch.setattr(
            run_dir, "_short", lambda path, descriptor: os.close(descriptor) or path
        )
        run = Supervisor(99999, "FriNov280345032025")  # as `ps -o lstart=` says it
        base = shared_dir.base_folder(None, None, run=run.key)
        shared = run_dir.RunDir(base, run)
        try:
            assert not base.is_relative_to(long)
            assert len(os.fsencode(shared.socket("4194304-01234567"))) <= 103
        finally:
            shared.withdraw()
            shared.remove()
