"""Where this service will have its page, and whether port and shared folder can be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor import fetch
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import NO_PAGE
from otel_coach.cli.doctor.traps.page import TOKEN_MISSING
from otel_coach.cli.terminal import within
from otel_coach.core.installed import is_installed
from otel_coach.core.traps import MULTIPROCESS_FOLDER, PORT, SHARED_FOLDER, cure_of_port
from otel_coach.core.urls import host_in_url
from otel_coach.prometheus.http import own_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding

_MAX_SECONDS: Final = 5.0
"""Seconds to find out whether what listens on the port is the service itself."""


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields where the page is, and what prevents it."""
    settings = examined.settings
    if not settings.metric_exporters:
        yield NO_PAGE.found(value=examined.text("OTEL_METRICS_EXPORTER") or "none")
    if not settings.serves_metrics:
        return
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        yield Fact(f"metrics: {settings.metrics_path} in the application")
    else:
        yield from _port(host, port, settings.metrics_token)
    folder = settings.prometheus_multiprocess
    if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 - no error for any name
        yield MULTIPROCESS_FOLDER.found(path=folder)
    yield from _folder(examined)


def _port(host: str, port: int, token: str | None) -> Iterator[Finding | Fact]:
    where = f"{host_in_url(host)}:{port}"
    try:
        own_port.listen(host, port).close()  # as the service does, for a moment
    except (OSError, ValueError, OverflowError) as error:
        if _may_be_the_service(f"http://{where}/metrics", has_token=token is not None):
            yield Fact(f"metrics: on {where}, which is in use: by this service, if it is running")
            return
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        yield PORT.found(host=host, port=port, reason=reason, cure=cure_of_port(error))
    else:
        yield Fact(f"metrics: /metrics on {where}, which is free")


def _may_be_the_service(url: str, *, has_token: bool) -> bool:
    """Whether a page of otel-coach's, or one that needs a token as the service's does, is at `url`.

    The request carries no token, because another program may have the port.
    """
    try:
        return fetch.is_ours(within(_MAX_SECONDS, lambda: fetch.fetched(url, None)).text)
    except fetch.PageError as error:
        return has_token and error.finding.trap is TOKEN_MISSING
    except Exception:  # noqa: BLE001 - whatever else listens there may answer anything
        return False


def _folder(examined: Examined) -> Iterator[Finding | Fact]:
    settings = examined.settings
    if not settings.shares_figures:
        return
    if not is_installed("fcntl"):
        yield Fact("workers: each shows its own figures, as this is no POSIX system")
        return
    from otel_coach.workers.log_once import ANOTHER_FOLDER, cure  # noqa: PLC0415 - POSIX only
    from otel_coach.workers.shared_dir import base_folder  # noqa: PLC0415 - POSIX only

    try:
        folder = base_folder(settings.shared_folder, settings.runtime_folder)
    except OSError as error:
        remedy = (
            "mkdir -m 700 ~/otel-coach && export OTEL_COACH_SHARED_DIR=~/otel-coach # "
            f"{cure(error, ANOTHER_FOLDER)}"
        )
        yield SHARED_FOLDER.found(reason=error, cure=remedy)
    else:
        yield Fact(f"workers share their figures in {folder}")
