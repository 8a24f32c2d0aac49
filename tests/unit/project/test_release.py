"""What builds a release is pinned."""

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT
from tests.support.pyproject import PYPROJECT, pinned, pinned_extras

# What builds it, and what it brings along

LOCKS = sorted({*ROOT.glob("requirements-*.txt")} - {ROOT / "requirements-site.txt"})
"""Those of environments into which otel-coach is installed."""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_what_builds_it_is_pinned_in_every_lock_that_it_is_installed_from(lock):
    pins = pinned(lock)
    # An editable install by hatchling needs editables, which it asks for when it builds.
    for requirement in map(Requirement, [*PYPROJECT["build-system"]["requires"], "editables"]):
        assert requirement.specifier.contains(pins[requirement.name])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_the_extras_without_which_old_pips_refuse_it(lock):
    # By --require-hashes, pip 23.2 takes `name==1` for no pin of what asks for `name[extra]`.
    groups = PYPROJECT["dependency-groups"].values()
    asked = [Requirement(one) for group in groups for one in group if isinstance(one, str)]
    extras = pinned_extras(lock)
    for requirement in asked:
        assert requirement.extras <= extras.get(requirement.name, requirement.extras)
