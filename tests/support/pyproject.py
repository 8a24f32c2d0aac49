"""pyproject.toml, read for the tests."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def named(requirements):
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def pinned(lock):
    """The version of each distribution of a lock; each has the hashes of its files."""
    entries = re.findall(
        r"^([\w.-]+)==([^\s;]+)[^\n\\]*((?:\\\n[^\n\\]*)*)$", lock.read_text(), re.MULTILINE
    )
    assert all("--hash=sha256:" in hashes for _, _, hashes in entries)
    return {canonicalize_name(name): version for name, version, _ in entries}
