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


_PIN = re.compile(
    r"^([\w.-]+)(?:\[([\w, -]+)\])?==([^\s;]+)[^\n\\]*((?:\\\n[^\n\\]*)*)$", re.MULTILINE
)


def pinned(lock):
    """The version of each distribution of a lock; each has the hashes of its files."""
    entries = _PIN.findall(lock.read_text())
    assert all("--hash=sha256:" in hashes for *_, hashes in entries)
    return {canonicalize_name(name): version for name, _, version, _ in entries}


def pinned_extras(lock):
    """The extras that each distribution of a lock is installed with."""
    entries = _PIN.findall(lock.read_text())
    return {
        canonicalize_name(name): {one.strip() for one in extras.split(",")} - {""}
        for name, extras, _, _ in entries
    }
