"""Whether what the service depends on answers: probes of our own, and the application's checks."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_coach.catalogue import DEPENDENCY_LATENCY, DEPENDENCY_UP
from otel_coach.guards import OwnThread, guarded
from otel_coach.instrumentors.dependencies.probes import UnknownAddressError, probe_of
from otel_coach.vocabulary import DEPENDENCY_NAME, ERROR, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    from otel_coach.instrumentors.dependencies.probes import Probe
    from otel_coach.recorder import Recorder

_logger = logging.getLogger("otel_coach")
_MOST_NAMES: Final = 1000
_Check = TypeVar("_Check", bound="Callable[..., Any]")


class Health:
    """The last result of each dependency, and where results are recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._up: dict[str, bool] = {}
        self._probed: dict[str, float] = {}
        recorder.observe(DEPENDENCY_UP, self._values, self._times)

    @guarded  # the application's check must not fail by us
    def note(self, name: str, seconds: float, error: str | None) -> None:
        """A probe of `name` took `seconds`; `error` names what failed, None for success."""
        up = error is None
        self.recorder.record(DEPENDENCY_LATENCY, seconds, (name, OK if up else ERROR))
        # Among so many, nobody asks what is up; their probes are counted.
        is_one_too_many = name not in self._up and len(self._up) >= _MOST_NAMES
        if not is_one_too_many:
            self._note_state(name, error)
        self.recorder.settle()

    def _note_state(self, name: str, error: str | None) -> None:
        up = error is None
        if self._up.get(name, True) != up:
            if up:
                _logger.warning("otel-coach: dependency %s is up again", name)
            else:
                # The message of an exception may hold an address with a password.
                _logger.warning("otel-coach: dependency %s is down (%s)", name, error)
        self._up[name] = up
        self._probed[name] = monotonic()  # of the whole machine, and never set

    def _values(self) -> Mapping[tuple[object, ...], float]:
        return {(name,): float(up) for name, up in tuple(self._up.items())}

    def _times(self) -> Mapping[tuple[object, ...], float]:
        return {(name,): at for name, at in tuple(self._probed.items())}


class Watch:
    """`with` and decorator in one, around a check of the application, sync or async.

    The check counts as failed if it raises; what it raises or returns passes unchanged.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @contextmanager
    def _watched(self) -> Generator[None]:
        # A check that is cancelled says nothing about the dependency.
        started = perf_counter()
        try:
            yield
        except Exception as raised:
            _note(self._name, perf_counter() - started, type(raised).__name__)
            raise
        else:
            _note(self._name, perf_counter() - started, None)

    def __call__(self, check: _Check) -> _Check:
        """Watch each call of `check`."""
        if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004 - an object whose call is async
        ):

            @functools.wraps(check)
            async def watched_async(*args: Any, **kwargs: Any) -> Any:
                with self._watched():
                    return await check(*args, **kwargs)

            return cast("_Check", watched_async)

        @functools.wraps(check)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._watched():
                return check(*args, **kwargs)

        return cast("_Check", watched)

    def __enter__(self) -> None:
        self._entered = self._watched()
        self._entered.__enter__()

    def __exit__(self, *raised: object) -> bool | None:
        return self._entered.__exit__(*raised)  # type: ignore[arg-type]

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> bool | None:
        return self.__exit__(*raised)


def watch_dependency(name: str) -> Watch:
    """Count a check of the application's own as a probe of the dependency `name`.

    A decorator and a context manager, for sync and async code::

        @watch_dependency("postgres_django")
        async def check() -> None: ...

        with watch_dependency("redis"):
            client.ping()

    Does nothing where otel-coach is not active.
    """
    return Watch(name)


_health: Health | None = None


def _note(name: str, seconds: float, error: str | None) -> None:
    if (health := _health) is not None:
        health.note(name, seconds, error)


class DependenciesInstrumentor(BaseInstrumentor):
    """Probes the dependencies, each in a thread of its own, off every event loop.

    `instrument` takes `recorder`, `addresses` (by name), `interval` and `timeout` (seconds).
    Probing begins with `start`, in the process that serves.
    """

    _watchers: list[Watcher]

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing is required."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        global _health  # noqa: PLW0603 - the application's checks have no other way to us
        _health = health = Health(kwargs["recorder"])
        self._watchers = []
        addresses: Mapping[str, str] = kwargs.get("addresses", {})
        health.recorder.reserve(DEPENDENCY_NAME, addresses)
        for name, address in addresses.items():
            try:
                probe = probe_of(address)
            except UnknownAddressError as error:
                _logger.error(  # noqa: TRY400 - one line with the cure
                    "otel-coach: OTEL_COACH_DEPENDENCIES: %s %s; left out", name, error
                )
                continue
            self._watchers.append(
                Watcher(health, name, probe, kwargs["interval"], kwargs["timeout"])
            )

    def start(self) -> None:
        """Begin to probe."""
        for watcher in self._watchers:
            watcher.start()

    def _uninstrument(self, **_kwargs: Any) -> None:
        global _health  # noqa: PLW0603
        _health = None
        for watcher in self._watchers:
            watcher.stop()
        self._watchers.clear()


_NOT_FINISHED: Final = "TimeoutError"


class Watcher:
    """Probes one dependency every `interval` seconds and calls it down after `timeout`.

    Two threads: one keeps the time, one may hang in the probe. While that one hangs, no second
    probe is started; the dependency stays down.
    """

    def __init__(
        self, health: Health, name: str, probe: Probe, interval: float, timeout: float
    ) -> None:
        self._health = health
        self._name = name
        self._probe = probe
        self._interval = interval
        self._timeout = timeout
        self._stopped = threading.Event()
        self._attempt: _Attempt | None = None

    def start(self) -> None:
        """Start to keep the time."""
        fault = self._health.recorder.fault
        OwnThread(self._keep_time, f"otel-coach-probe-{self._name}", fault).start()

    def stop(self) -> None:
        """Start no further probe."""
        self._stopped.set()

    def _keep_time(self) -> None:
        while True:
            started = perf_counter()
            try:
                self._probe_once()
            except BaseException as fault:  # noqa: BLE001 - the next interval tries again
                self._health.recorder.fault(fault, "Watcher")
            if self._stopped.wait(max(0.0, self._interval - (perf_counter() - started))):
                return

    def _probe_once(self) -> None:
        if self._attempt is not None and not self._attempt.finished.is_set():
            self._health.note(self._name, self._timeout, _NOT_FINISHED)
            return
        self._attempt = attempt = _Attempt(self._probe, self._timeout, self._health.recorder.fault)
        if attempt.finished.wait(self._timeout):
            self._health.note(self._name, attempt.seconds, attempt.error)
        else:
            self._health.note(self._name, self._timeout, _NOT_FINISHED)


class _Attempt:
    """One probe, in a thread that may never come back."""

    def __init__(
        self, probe: Probe, timeout: float, fault: Callable[[BaseException, str], None]
    ) -> None:
        self.finished = threading.Event()
        self.seconds = 0.0
        self.error: str | None = None
        self._probe = probe
        self._timeout = timeout
        OwnThread(self._run, "otel-coach-probe", fault).start()

    def _run(self) -> None:
        started = perf_counter()
        try:
            with suppress_instrumentation():  # our probes are no calls of the application
                self._probe(self._timeout)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the dependency is down
            self.error = type(error).__name__
        self.seconds = perf_counter() - started
        self.finished.set()
