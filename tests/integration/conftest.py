"""All of these start a real server or another process: `make test-fast` leaves them out."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(config):
    """Not even to import them saves seconds; on Windows they cannot be."""
    return True if os.name == "nt" or config.option.markexpr == "not server" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.server)
