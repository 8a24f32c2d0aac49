"""A real terminal, and the tables that stand in it."""

import os
import re
import subprocess

COLOURS = re.compile(r"\x1b\[(?:[\d;:]*[;:])?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:[;:][\d;:]*)?m")
"""The escape sequences that ask for a colour other than the terminal's own."""


class Terminal:
    """A terminal of 80 columns in tmux, whose socket is the file `socket`."""

    def __init__(self, socket):
        self._tmux = ("tmux", "-S", str(socket))

    def run(self, *arguments):
        return subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=False
        ).stdout

    def start(self, *command, lines=60, **variables):
        environment = {**os.environ, "TERM": "xterm"}
        for one in ("COLUMNS", "LINES", "NO_COLOR"):  # of the terminal in which the tests run
            environment.pop(one, None)
        environment.update(variables)
        size = ("-x", "80", "-y", str(lines))
        subprocess.run(
            [*self._tmux, "new-session", "-d", *size, *map(str, command)],
            env=environment,
            check=True,
        )

    @property
    def screen(self):
        return self.run("capture-pane", "-p")

    @property
    def colours(self):
        return COLOURS.findall(self.run("capture-pane", "-p", "-e"))

    def row(self, name):
        """The words of the last line that begins with that name."""
        lines = [line.split() for line in self.screen.splitlines()]
        return next((words for words in reversed(lines) if words[:1] == [name]), [])


def tables_of(text):
    """The tables as {section: {row: {title: text}}}; one that is continued is a part of it.

    Cells are apart by two spaces; the head is the line above the rule, the title two above it.
    """
    found, section, titles = {}, "", None
    lines = [line.strip(" ▁▂▃▄▅▆▇█") for line in text.splitlines()]
    for index, line in enumerate(lines):
        if "──" in line:
            section = lines[index - 3].removesuffix(", continued")
            titles = [one.rstrip("▼▲") for one in re.split(r"\s{2,}", lines[index - 1])]
            if section != "Service":
                titles.pop(0)
        elif not line:
            titles = None
        elif titles:
            cells = re.split(r"\s{2,}", line)
            name = "" if section == "Service" else cells.pop(0)
            row = found.setdefault(section, {}).setdefault(name, {})
            row.update(zip(titles, cells, strict=True))
    return found
