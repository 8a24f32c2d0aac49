"""A Python process that has imported what many cases need, and forks itself for each of them.

That takes a moment, where a new interpreter that imports FastAPI or LangChain takes half a second
of a processor or more. It is for cases that differ in what is found, not in what is imported when;
that a new interpreter finds the same is for a test beside them.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from tests.support.environment import without_settings
from tests.support.paths import ROOT


@contextmanager
def warm_python(*modules):
    """Runs what `python` would run, after a fork of a process that has imported `modules`."""
    with (
        TemporaryDirectory(prefix="otel-coach-warm-") as folder,
        subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", folder, *modules],
            env={**without_settings(), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        output = Path(folder) / "output"

        def run(*words, environment, text=None, seconds=120.0):
            """`words` are `-m MODULE ...`, or `-` with a text."""
            order = words, dict(environment), os.getcwd(), text, seconds, str(output)  # noqa: PTH109
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            if code == -signal.SIGALRM:
                raise subprocess.TimeoutExpired(words, seconds)
            return subprocess.CompletedProcess(words, code, output.read_text())

        yield run


@contextmanager
def forking(*modules):
    """Stands for the module `subprocess` where that runs a module as a program."""
    with warm_python(*modules) as python:

        def run(command, *, env, timeout, **_streams):
            return python(*command[1:], environment=env, seconds=timeout)

        yield SimpleNamespace(
            run=run, TimeoutExpired=subprocess.TimeoutExpired, DEVNULL=subprocess.DEVNULL
        )


def main():
    """Runs in a fork what each line of the standard input orders, and writes its exit code."""
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()  # the forks shall share what was imported
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _run(*json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _run(words, environment, folder, text, seconds, output):
    signal.alarm(int(seconds))
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    if text is None:
        sys.argv = [*words[1:]]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [*words]
        exec(compile(text, "<stdin>", "exec"), {"__name__": "__main__"})
