"""What `otel-coach doctor` finds in the environment, without trying each library: that is slow."""

import json
import os
import sys

from otel_coach.cli import doctor
from otel_coach.cli.doctor.examined import Examined
from otel_coach.core.traps import Finding
from otel_coach.settings import Settings

examined = Examined(Settings.from_env(os.environ), os.environ)
found = [
    result.trap.name
    for subject, look in doctor._SUBJECTS.items()
    if subject != "libraries"
    for result in look(examined)
    if isinstance(result, Finding)
]
json.dump(found, sys.stdout)
