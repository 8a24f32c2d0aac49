"""Where it does not run every day: Windows and macOS, as far as they can be had on Linux."""

import subprocess
import sys

import pytest

from otel_coach.cli import COMMANDS

POSIX_ONLY = """
# What the standard library lacks there: forks, users, most signals, and some modules.
import multiprocessing, multiprocessing.util, os, random, signal, subprocess, sys
import concurrent.futures.thread, threading

def take_away():
    for name in ("register_at_fork", "fork", "getuid", "geteuid", "killpg", "getpgid"):
        delattr(os, name)
    for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"):
        delattr(os, name)
    for name in dir(signal):
        if name.startswith("SIG") and name[3:] not in {
            "ABRT", "BREAK", "FPE", "ILL", "INT", "SEGV", "TERM", "_DFL", "_IGN"
        }:
            delattr(signal, name)
    for name in ("fcntl", "termios", "curses"):  # other packages import more, but not there
        sys.modules[name] = None
"""
WINDOWS = (
    POSIX_ONLY
    + """
# Besides, nothing in /proc and no ps.
import logging, pathlib

def main():
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    take_away()
    real = pathlib.Path.read_text

    def read_text(path, *args, **kwargs):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "The system cannot find the file specified")
        return real(path, *args, **kwargs)

    def no_program(*args, **kwargs):
        raise FileNotFoundError(2, "The system cannot find the file specified")

    pathlib.Path.read_text = read_text
    subprocess.run = no_program
    import otel_coach
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from langchain_core.language_models import FakeListChatModel

    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return (await FakeListChatModel(responses=["hi"]).ainvoke("x")).content

    otel_coach.instrument(app)
    with TestClient(app) as client:
        assert client.get("/ask").json() == "hi"
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(("http_server_request_duration_seconds_count", "# otel-coach")):
                print(line)
            if line.startswith("otel_coach_errors_total") and not line.endswith(" 0.0"):
                print(line)
    otel_coach.uninstrument()

if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker = multiprocessing.get_context("spawn").Process(target=main)
        worker.start()
        worker.join()
        sys.exit(worker.exitcode)
    main()
"""
)
COMMAND = (
    POSIX_ONLY
    + """
take_away()
from contextlib import suppress
from otel_coach.cli import COMMANDS, main

if sys.argv[1:] == ["all"]:
    for name in COMMANDS:
        sys.argv[1:] = [name, "--help"]
        with suppress(SystemExit):
            main()
    sys.exit()
sys.exit(main())
"""
)
MEASURED = (
    'http_server_request_duration_seconds_count{endpoint="/ask",method="GET",status="200"} 1.0'
)


@pytest.mark.parametrize("role", ["alone", "worker"])
def test_what_windows_lacks_takes_only_the_sharing_of_workers(tmp_path, role):
    script = tmp_path / "windows.py"
    script.write_text(WINDOWS)
    done = subprocess.run(
        [sys.executable, script, role], capture_output=True, text=True, check=False, timeout=100
    )
    assert not done.returncode, done.stderr
    # The fake model names no usage, which is one line.
    lines = [line for line in done.stdout.splitlines() if "no_usage" not in line]
    assert MEASURED in lines
    said = [line for line in lines if "POSIX systems only" in line]
    alone = [line for line in lines if line.startswith("# otel-coach: these are the figures of")]
    assert (len(said), len(alone)) == ((1, 1) if role == "worker" else (0, 0))
    assert len(lines) == 1 + len(said) + len(alone)


def command(tmp_path, *arguments):
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_each_command_starts_on_windows(tmp_path):
    done = command(tmp_path, "all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\nexamples:") == len(COMMANDS)
    done = command(tmp_path, "prices", "gpt-4o", "--provider", "openai")
    assert "gpt-4o of openai" in done.stdout, done.stderr
    done = command(tmp_path, "doctor")
    assert "workers: each shows its own figures, as this is no POSIX system" in done.stdout
    assert "nothing to mend" in done.stdout, done.stderr
