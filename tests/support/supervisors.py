"""A machine on which processes are hidden."""

import re
from pathlib import Path


def hide(monkeypatch, error):
    real = Path.read_text

    def read_text(path, *args, **kwargs):
        if str(path) != "/proc/self/stat" and re.fullmatch(r"/proc/\d+/stat", str(path)):
            raise error
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
