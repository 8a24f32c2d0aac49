"""What starts when a process starts to serve: alone, or as one of several workers."""

from __future__ import annotations

import functools
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_coach.configuration.late_variables import LateVariables
from otel_coach.core.announcement import announce
from otel_coach.core.guard import guarded
from otel_coach.core.traps import LATE_VARIABLES, VENDOR
from otel_coach.setup.start_line import start_line
from otel_coach.workers.log_once import cure
from otel_coach.workers.supervisor import (
    bequeathed_secrets,
    inherited_secret,
    pid_of_supervisor,
    supervisor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from otel_coach.metrics.recorder import Recorder
    from otel_coach.prometheus.http.shared_renders import Renders
    from otel_coach.prometheus.local_metrics import LocalMetrics
    from otel_coach.prometheus.page_renderer import PageRenderer
    from otel_coach.settings import EffectiveSettings
    from otel_coach.workers.membership import Membership
    from otel_coach.workers.supervisor import Supervisor

_logger = logging.getLogger("otel_coach")

_ANOTHER_FOLDER: Final = "Set OTEL_COACH_SHARED_DIR to a folder on another disk."


class Serving:
    """This process's part in its service: its membership among the workers, and its page's port."""

    def __init__(  # noqa: PLR0913 - the parts of one process
        self,
        local: LocalMetrics,
        page: PageRenderer,
        renders: Renders,
        recorder: Recorder,
        settings: EffectiveSettings,
        *,
        vendors: Sequence[str] = (),
    ) -> None:
        self._local = local
        self._page = page
        self._renders = renders
        self._recorder = recorder
        self._settings = settings
        self._vendors = vendors
        self._folders = settings.shared_folder, settings.runtime_folder
        self._membership: Membership | None = None
        self._begun_in: int | None = None
        """The pid of the process in which `begin` was called; a forked child calls it again."""
        self._lacks_port = False
        self._pid = os.getpid()
        self._stop_port: Callable[[], None] | None = None
        self._announced: set[str] = set()
        self._variables = LateVariables()

    @property
    def recorder(self) -> Recorder:
        """The recorder of this process, which also counts otel-coach's own errors."""
        return self._recorder

    @guarded
    def begin(self) -> None:
        """Starts sharing metrics if this process is a worker, and the page's own port if it is set.

        A process that serves is not a supervisor itself, but may have one.
        """
        if self._begun_in == os.getpid():
            return  # the process serves several applications, or one again
        self._begun_in = os.getpid()
        # logging.config disables each logger that its configuration does not name.
        _logger.disabled = False
        settings = self._settings
        if settings.serves_metrics:
            if settings.shares_figures and (pid := pid_of_supervisor()) is not None:
                self._share(pid)
            if (port := settings.metrics_port) is not None:
                self.once_for_all("port", functools.partial(self._serve_port, port))
        self._log_late_variables()
        self.announce("start", self._start_line)
        if self._vendors:
            self.announce("vendor", lambda: str(VENDOR.found(names=", ".join(self._vendors))))

    def _start_line(self) -> str:
        has_port = not self._lacks_port
        return start_line(
            self._settings, self._variables.before, has_port=has_port, vendors=self._vendors
        )

    @guarded
    def announce(self, topic: str, line: Callable[[], str]) -> None:
        """Logs a line at INFO, once for each topic in a service, unless it is to be quiet."""
        if self._settings.quiet or topic in self._announced:
            return
        self._announced.add(topic)
        if self._is_first(topic):
            announce(line())

    def _log_late_variables(self) -> None:
        """Logs which variables were set too late; a vendor's distro may set some for itself."""
        names = self._variables.names()
        if names and not self._vendors and self._is_first("late variables"):
            line = LATE_VARIABLES.found(names=", ".join(names), file="./.env")
            _logger.warning("otel-coach: %s", line)

    def _is_first(self, topic: str) -> bool:
        """Returns whether no worker of the service has asked this about `topic` before."""
        if self._membership is not None:
            return self._membership.is_first(topic)
        if self._settings.serves_metrics or not self._settings.shares_figures:
            return True
        # Workers that only push have no membership. All they share is a note that one was first.
        with suppress(ImportError, OSError):
            from otel_coach.workers import run_dir  # noqa: PLC0415 - only on POSIX

            pid = pid_of_supervisor()
            if pid is not None and (parent := supervisor(pid)) is not None:
                return run_dir.is_first_of_run(self._base_folder(parent), parent, topic)
        return True

    def _base_folder(self, parent: Supervisor) -> Path:
        """Returns the folder for the runs of all services, for the workers of `parent`."""
        from otel_coach.workers import shared_dir  # noqa: PLC0415 - only on POSIX

        return shared_dir.base_folder(*self._folders, run=parent.key, secret=inherited_secret())

    def _share(self, supervisor_pid: int) -> None:
        """Joins the workers of the supervisor with that pid."""
        try:
            from otel_coach.workers import membership  # noqa: PLC0415 - only on POSIX
        except ImportError:
            _logger.warning(
                "otel-coach: workers share their metrics on POSIX systems only; each shows "
                "its own on its page"
            )
            self._page.show_one_of_many()
            return
        try:
            parent = supervisor(supervisor_pid)
        except OSError as error:
            _logger.error(  # noqa: TRY400 - one line with the cure
                "otel-coach: cannot determine this process's supervisor (%s); it shows "
                "only its own metrics on its page. %s",
                error,
                cure(error, "Let it read /proc."),
            )
            self._page.show_one_of_many()
            return
        if parent is None:
            return  # the supervisor has just ended
        self._membership = membership.Membership.join(
            functools.partial(self._base_folder, parent),
            parent,
            self._local,
            self._recorder.fault,
            self._page.forget_if_idle,
        )
        if self._membership is None:
            self._page.show_one_of_many()
            return
        self._page.show_all(self._membership.all_metrics)
        try:
            log = self._membership.shared_log("budgets")
        except OSError as error:
            _logger.error(  # noqa: TRY400 - one line with the cure
                "otel-coach: worker %d cannot share its label budgets (%s); it keeps to its own, "
                "so that all workers together may have more series. %s",
                os.getpid(),
                error,
                cure(error, _ANOTHER_FOLDER),
            )
        else:
            self._recorder.share_budgets(log)

    def once_for_all(self, task: str, start: Callable[[], None]) -> None:
        """Calls `start` in one process of the service only; if that process ends, in another."""
        if self._membership is None:
            start()
        else:
            self._membership.when_mine(task, start)

    @guarded
    def refresh(self) -> None:
        """Writes all that this worker has measured for the other workers."""
        if self._membership is not None:
            self._membership.refresh()

    @guarded
    def end(self) -> None:
        """Ends the membership, or removes the folder of ended workers, when the process ends."""
        if self._membership is not None:
            self._membership.close()
        elif self._settings.shares_figures and self._begun_in is None and os.getpid() == self._pid:
            # This may be a supervisor whose workers have ended: remove their folder.
            with suppress(ImportError, OSError):
                from otel_coach.workers import run_dir, shared_dir  # noqa: PLC0415 - only on POSIX

                if (me := supervisor(os.getpid())) is not None:
                    secrets = bequeathed_secrets()
                    for base in shared_dir.bases_of(me.key, *self._folders, secrets):
                        run_dir.remove_run(base / me.key)

    @guarded
    def stop(self) -> None:
        """Leaves the service: no thread, socket or lock of otel-coach is left in this process."""
        if self._membership is not None:
            self._membership.leave()
            self._membership = None
        if self._stop_port is not None:
            self._stop_port()
            self._stop_port = None
        self._begun_in = None

    def _name_port(self, url: str) -> None:
        self.announce("own port", lambda: f"metrics at {url}")

    def _serve_port(self, port: int) -> None:
        from otel_coach.prometheus.http.own_port import Address, serve  # noqa: PLC0415 - only where asked for

        settings = self._settings
        address = Address(settings.metrics_host, port, settings.metrics_path)
        self._stop_port = serve(
            self._renders, address, settings.metrics_token, self._recorder.fault, self._name_port
        )
        self._lacks_port = self._stop_port is None
