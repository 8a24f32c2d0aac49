"""Workers without a server: what they measure, and how they join."""

import os

from otel_coach.workers.membership import Membership
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import base_folder
from otel_coach.workers.supervisor import (
    supervisor,
)
from tests.support.faults import never


class Source:
    """What a worker measures, as bytes that say who they are."""

    def __init__(self, content=lambda: b"own"):
        self.content = content
        self.retired = []

    def measure(self, *, whole):
        found = self.content()
        return found if whole else b""

    def changed(self):
        return True

    def increments(self):
        return b""

    def fold(self, contents):
        self.retired.append(list(contents))
        return b"+".join(contents)


def group_in(folder, source):
    me = supervisor(os.getpid())
    return Membership(RunDir(base_folder(str(folder), None), me), me, source, never)
