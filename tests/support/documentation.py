"""The shell and Python blocks of the documentation, and a place in which they can be run."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from textwrap import dedent

from tests.support.environment import without_settings
from tests.support.paths import APPS, COACHING, ROOT
from tests.support.stack import bin_path

_FOLDERS = ("deploy", "docs", "examples", "otel_coach", "tests", "tools", "verification")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for name in _FOLDERS for page in (ROOT / name).rglob("*.md"))]
)
RUN = {"shell", "python", "console"}
"""The languages whose blocks a test runs, on whichever page they are.

Those of a `console`, with what it prints, are run by test_documented_sessions.py, the others by
test_documented_blocks.py.
"""
DATA = {"promql", "text", "yaml"}
"""Those of what is no program: expressions, output and configuration."""
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_ANY_FENCE = re.compile(r"^[ \t>*+-]*(?:`{3,}|~{3,}).*$", re.MULTILINE)
# What stands in for programs that would install or publish something, or serve for ever.
_PROGRAMS = {
    "curl": "tests.support.stand_ins.curl",
    "pip": "tests.support.stand_ins.pip",
    **{
        name: f"tests.support.stand_ins.serving {name}"
        for name in ("opentelemetry-instrument", "otel-coach", "uvicorn")
    },
    **{
        name: f"tests.support.stand_ins.repository {name}"
        for name in ("docker", "gh", "git", "kubectl", "make", "otelcol")
    },
}
# Where the reader of a page is; of any other page, in a folder with an application of their own.
_FOLDER_OF_READER = {
    "CONTRIBUTING.md": ROOT,
    "RELEASING.md": ROOT,
    "deploy/README.md": ROOT,
    "examples/coaching/README.md": COACHING,
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
    """Yields the blocks in these languages, of all pages."""
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        yield from (
            one for one in _blocks(name, page.read_text("utf-8")) if one.language in languages
        )


def _blocks(page, text):
    for found in _FENCE.finditer(text):
        _, language, body = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, language, dedent(body))


def not_run(page, text):
    """The lines of fences on this page that belong to no block that a test runs, and to no data."""
    known = set()
    for block in _blocks(page, text):
        is_session = block.language != "console" and re.search(r"^\$ ", block.text, re.MULTILINE)
        if block.language in RUN | DATA and not is_session:
            known |= {block.line, block.line + block.text.count("\n") + 1}
    lines = {
        text.count("\n", 0, one.start(0)) + 1: one.group() for one in _ANY_FENCE.finditer(text)
    }
    return [f"{page}:{line}: {fence}" for line, fence in lines.items() if line not in known]


class Place:
    """A folder in which the blocks of a page are run as its reader runs them.

    It has the application as app.py, unless the page is about a folder of the repository.
    """

    def __init__(self, folder, page="", **environment):
        self.folder = _FOLDER_OF_READER.get(page, folder)
        paths = [str(ROOT)]
        if self.folder is folder:
            (folder / "app.py").write_text((APPS / "documented_app.py").read_text())
            paths.insert(0, str(folder))
        programs = folder / "programs"
        programs.mkdir()
        for name, module in _PROGRAMS.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            program.chmod(0o755)
        self.environment = {
            **without_settings(),
            "PATH": os.pathsep.join([str(programs), str(bin_path("")), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(paths),
            # For tests.support.stand_ins.curl, which has no other.
            **dict.fromkeys(("OPENAI_ADMIN_KEY", "ANTHROPIC_ADMIN_KEY"), "an-admin-key"),
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
