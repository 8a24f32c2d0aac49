"""The shell and Python blocks of the documentation, and a place in which they can be run."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

from tests.support.environment import without_settings
from tests.support.paths import APPS, ROOT
from tests.support.stack import bin_path

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands in for programs that would install something, or serve for ever.
_PROGRAMS = {
    "pip": "tests.support.stand_ins.pip",
    "opentelemetry-instrument": "tests.support.stand_ins.serving opentelemetry-instrument",
    "otel-coach": "tests.support.stand_ins.serving otel-coach",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def is_test(self):
        """Whether it is for pytest."""
        return "def test_" in self.text


def blocks(*languages):
    """Yields the blocks in these languages."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            language, body = found.groups()
            if language in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Block(page.name, line, language, body)


class Place:
    """A folder with the application as app.py, in which blocks are run as a reader runs them."""

    def __init__(self, folder, **environment):
        self.folder = folder
        (folder / "app.py").write_text((APPS / "documented_app.py").read_text())
        programs = folder / "programs"
        programs.mkdir()
        for name, module in _PROGRAMS.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            program.chmod(0o755)
        self.environment = {
            **without_settings(),
            "PATH": os.pathsep.join([str(programs), str(bin_path("")), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            **environment,
        }

    def run(self, *command, text=None):
        """What the command did; it and all that it started end after 100 seconds."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(text, timeout=100)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)
