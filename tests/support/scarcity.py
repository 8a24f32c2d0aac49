"""Full disks, used up descriptors, and workers that meet them."""

import errno
import gc
import os
import resource
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from otel_coach.prometheus.snapshot import to_bytes
from otel_coach.workers import run_dir as folder_module
from otel_coach.workers import shared_dir as base_folder_module
from otel_coach.workers.journal import Journal
from otel_coach.workers.membership import Membership
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import base_folder
from otel_coach.workers.supervisor import supervisor
from tests.support import membership
from tests.support.faults import never
from tests.support.paths import ROOT
from tests.support.snapshots import snapshot_of


@contextmanager
def groups_of_this_process():
    with ExitStack() as made:

        def make(path, source=None):
            me = supervisor(os.getpid())
            group = Membership(
                RunDir(base_folder(str(path), None), me), me, source or Source(), never
            )
            made.callback(group._folder.remove)
            made.callback(group._refresh_socket.close)
            made.callback(group._folder.withdraw)
            return group

        yield make


class Disk:
    """A small disk of its own, or where this user can mount none, one that pretends to be full."""

    def __init__(self, path):
        self.path = path
        self._pretence = pytest.MonkeyPatch()
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", path]
        mounted = subprocess.run(mount, check=False, capture_output=True)
        self.is_real = not mounted.returncode

    def fill(self):
        if not self.is_real:
            self._pretence.setattr(folder_module, "open", self._full, raising=False)
            self._pretence.setattr(base_folder_module, "_has_room", self._has_room)
            self._pretence.setattr(Journal, "append", self._full_file)
            return
        with pytest.raises(OSError, match="No space"):
            (self.path / "filler").write_bytes(bytes(1 << 20))

    def free(self):
        self._pretence.undo()
        (self.path / "filler").unlink(missing_ok=True)

    def unmount(self):
        self._pretence.undo()
        if self.is_real:
            subprocess.run(["umount", "--lazy", self.path], check=True)

    def _full(self, path, mode, opener):
        open(path, mode, opener=opener).close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _full_file(self, journal, changed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _has_room(self, base):
        return not base.is_relative_to(self.path)


@contextmanager
def descriptors(left=0):
    """So many more files can be opened by this process."""
    gc.collect()  # sockets that are only garbage would give their descriptors back meanwhile
    with ExitStack() as free:
        for _ in range(left + 1):
            last = os.dup(0)
            free.callback(os.close, last)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files():
    gc.collect()  # files that an earlier test has dropped do not count
    return len(list(Path("/dev/fd").iterdir()))


def numbered(number):
    """As much as fits into no rest of a block of a full disk."""
    return b"%4096d" % number


class Source(membership.Source):
    """What a worker measures: how often it was measured."""

    def __init__(self):
        super().__init__()
        self.measured = count(1)

    def measure(self, *, whole):
        return numbered(next(self.measured))

    def changed(self):
        return False


OTHER_WORKER = """
import sys
from pathlib import Path
from otel_coach.workers.membership import Membership
from otel_coach.workers.supervisor import supervisor

class Source:
    measure = staticmethod(lambda whole: sys.argv[3].encode() if whole else b"")
    changed = staticmethod(lambda: False)
    increments = staticmethod(lambda: b"")
    fold = staticmethod(b"+".join)

group = Membership.join(lambda: Path(sys.argv[1]), supervisor(int(sys.argv[2])), Source(), print)
group.refresh()
print(group._folder.me, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_worker(base, content=b"other"):
    """A process that is one, and wrote `content`; its name."""
    base_folder(str(base), None)
    command = [sys.executable, "-c", OTHER_WORKER, base, str(os.getpid()), content.decode()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def by_worker(group):
    return {figures.worker: figures for figures in group.all_metrics()}


def lines(caplog):
    """What was logged, and forget it."""
    found = [record.getMessage() for record in caplog.records if record.name == "otel_coach"]
    assert all(line.startswith("otel-coach: ") for line in found)
    assert all(record.exc_info is None for record in caplog.records)
    caplog.clear()
    return found


def written(orders):
    """What a worker wrote that counted so many."""
    registry = CollectorRegistry()
    Counter("orders", "Orders", registry=registry).inc(orders)
    return to_bytes(snapshot_of(registry.collect(), {}))
