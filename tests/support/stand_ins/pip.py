"""`pip install X`: whether X is otel-coach with extras that it has, or a package that is there."""

import sys
from importlib.metadata import metadata

from packaging.requirements import Requirement

command, *wanted = sys.argv[1:]
assert command == "install"
assert wanted
for requirement in map(Requirement, wanted):
    facts = metadata(requirement.name)
    assert requirement.extras <= set(facts.get_all("Provides-Extra") or ()), requirement
