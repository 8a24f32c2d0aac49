"""What begins when a process begins to serve: alone, or as one worker among several."""

from __future__ import annotations

import functools
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_coach.guards import guarded
from otel_coach.workers.outage import cure
from otel_coach.workers.supervisor import (
    bequeathed_secrets,
    inherited_secret,
    pid_of_supervisor,
    supervisor,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.exposition.page import Page
    from otel_coach.exposition.renders import Renders
    from otel_coach.recorder import Recorder
    from otel_coach.settings import Settings
    from otel_coach.workers.group import Group

_logger = logging.getLogger("otel_coach")

_ANOTHER_FOLDER: Final = "Set OTEL_COACH_SHARED_DIR to a folder on another disk."


class Serving:
    """This process's part in its service."""

    def __init__(
        self, page: Page, renders: Renders, recorder: Recorder, settings: Settings
    ) -> None:
        self._page = page
        self._renders = renders
        self._recorder = recorder
        self._settings = settings
        self._folders = settings.shared_folder, settings.runtime_folder
        self._group: Group | None = None
        self._has_begun = False
        self._pid = os.getpid()
        self._stop_port: Callable[[], None] | None = None

    @property
    def recorder(self) -> Recorder:
        """Where faults go."""
        return self._recorder

    @guarded
    def begin(self) -> None:
        """The process serves: it is no supervisor of others, but may be one's worker."""
        self._has_begun = True
        settings = self._settings
        if not settings.serves_metrics:
            return
        if settings.shares_figures and (pid := pid_of_supervisor()) is not None:
            self._share(pid)
        if (port := settings.metrics_port) is not None:
            self.once_for_all("port", functools.partial(self._serve_port, port))

    def _share(self, supervisor_pid: int) -> None:
        """Take part among the workers of that process."""
        try:
            from otel_coach.workers import base_folder, group  # noqa: PLC0415 - only where POSIX is
        except ImportError:
            _logger.warning(
                "otel-coach: workers share their figures on POSIX systems only; each shows "
                "its own on /metrics"
            )
            self._page.show_one_of_many()
            return
        try:
            whose = supervisor(supervisor_pid)
        except OSError as error:
            _logger.error(  # noqa: TRY400 - one line with the cure
                "otel-coach: nobody can tell whose worker this process is (%s); it shows its own "
                "figures on /metrics. %s",
                error,
                cure(error, "Let it read /proc."),
            )
            self._page.show_one_of_many()
            return
        if whose is None:
            return  # it has just ended
        self._group = group.Group.join(
            lambda: base_folder.base_folder(
                *self._folders, run=whose.key, secret=inherited_secret()
            ),
            whose,
            self._page,
            self._recorder.fault,
        )
        if self._group is None:
            self._page.show_one_of_many()
            return
        self._page.show_all(self._group.everybody)
        try:
            log = self._group.shared_log("budgets")
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
        """Let one process of the service have `task`; if it dies, another one starts it."""
        if self._group is None:
            start()
        else:
            self._group.when_mine(task, start)

    @guarded
    def refresh(self) -> None:
        """Let the other workers know all that this one measured."""
        if self._group is not None:
            self._group.refresh()

    @guarded
    def end(self) -> None:
        """The process ends."""
        if self._group is not None:
            self._group.close()
        elif self._settings.shares_figures and not self._has_begun and os.getpid() == self._pid:
            # Perhaps a supervisor, whose workers are gone.
            with suppress(ImportError, OSError):
                from otel_coach.workers import base_folder, folder  # noqa: PLC0415 - only where POSIX is

                if (me := supervisor(os.getpid())) is not None:
                    secrets = bequeathed_secrets()
                    for base in base_folder.bases_of(me.key, *self._folders, secrets):
                        folder.remove_run(base / me.key)

    @guarded
    def stop(self) -> None:
        """Take part no more: no thread, socket or lock of ours is left in this process."""
        if self._group is not None:
            self._group.leave()
            self._group = None
        if self._stop_port is not None:
            self._stop_port()
            self._stop_port = None

    def _serve_port(self, port: int) -> None:
        from otel_coach.exposition.port import Address, serve  # noqa: PLC0415 - only where asked for

        settings = self._settings
        address = Address(settings.metrics_host, port, settings.metrics_path)
        self._stop_port = serve(
            self._renders, address, settings.metrics_token, self._recorder.fault
        )
