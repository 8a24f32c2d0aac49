"""`make demo` and `make run`, ended by a signal."""

import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress

import psutil
import pytest

from tests.support.paths import ROOT
from tests.support.programs import free_port


def programs(mark):
    """{pid: command line} of all that run with `mark` in their environment, but for the dead."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get("TEST_MARK") == mark
            ):
                found[process.pid] = " ".join(process.cmdline())
    return found


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_no_process_behind(how):
    mark = uuid.uuid4().hex
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.coaching.demo", "--port", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if line.startswith("serving until"):
                break
        started = programs(mark)
        assert any("uvicorn app:app" in args for args in started.values()), "".join(lines)
        assert any("postgres" in args for args in started.values())
        demo.send_signal(how)
        demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert demo.returncode == (0 if how is signal.SIGINT else 143)
    assert programs(mark) == {}
