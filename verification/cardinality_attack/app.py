"""A service in which everything that may become a label comes from the caller."""

from __future__ import annotations

import gc
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Request, Response
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import StructuredTool
from opentelemetry.metrics import CallbackOptions, Observation, get_meter

import otel_coach
from verification.cardinality_attack.values import unlikely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

app = FastAPI()
_meter = get_meter("junk")
_counter = _meter.create_counter("junk.counter")
_histogram = _meter.create_histogram("junk.histogram")
_model = FakeListChatModel(responses=["one two three"])
_observed = 0


@app.api_route("/echo", methods=["GET", "POST"])
async def echo(request: Request) -> Response:
    """Answers with the status and the challenge that the request asks for."""
    headers = request.headers
    return Response(
        status_code=int(headers.get("x-status", "200")),
        headers={"WWW-Authenticate": headers.get("x-challenge", "Bearer")},
    )


@app.post("/attack/{kind}")
def attack(kind: str, begin: int, count: int, different: int | None = None) -> float:
    """Measures `count` new values, or `different` ones in turn; returns the seconds it took."""
    measure = KINDS[kind]
    started = perf_counter()
    for number in range(begin, begin + count):
        measure(number % different if different else number)
    seconds = perf_counter() - started
    gc.collect()
    return seconds


def _models_modes_and_errors(number: int) -> None:
    metadata = {"ls_model_name": f"model-{number}", "mode": f"mode-{number}"}
    model = _model if number % 2 else _failing(number)
    with suppress(_AnyError):
        model.invoke("hi", {"metadata": metadata})


class _AnyError(Exception):
    """The base of all exception classes that are made at run time."""


def _made_at_run_time(part: object) -> _AnyError:
    return type(f"Error{part}", (_AnyError,), {})()


class _FailingModel(FakeListChatModel):
    number: int = 0

    def _call(self, *_: object, **__: object) -> str:
        raise _made_at_run_time(self.number)


_failing_model = _FailingModel(responses=["never"])


def _failing(number: int) -> FakeListChatModel:
    _failing_model.number = number
    return _failing_model


def _fail() -> str:
    """Raises an exception of a new class."""
    raise _made_at_run_time(_tool.name)


_tool = StructuredTool.from_function(_fail, name="tool")


def _tools_and_errors(number: int) -> None:
    _tool.name = f"tool-{number}"
    with suppress(_AnyError):
        _tool.invoke({})


def _dependencies(number: int) -> None:
    with otel_coach.watch_dependency(f"dependency-{number}"):
        pass


def _values_of_own_instruments(number: int) -> None:
    value = unlikely(number)
    _counter.add(1, {"model": value, "user": f"user-{number}", "status": number})  # type: ignore[dict-item]
    _histogram.record(1.0, {"endpoint": f"/{number}", "method": f"M{number}", f"k{number}": 1})


def _instruments(number: int) -> None:
    _meter.create_counter(f"made.at.run.time.{number}").add(1, {"model": "m"})


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(1, {"tool_name": f"observed-{n}"}) for n in range(_observed)]


_meter.create_observable_counter("junk.observed", [_observe])


def _observations(number: int) -> None:
    global _observed  # noqa: PLW0603 - the number of observations of the next scrape
    _observed = min(number, 1_000)


KINDS: Final[dict[str, Callable[[int], None]]] = {
    "models, modes, errors": _models_modes_and_errors,
    "tools, errors": _tools_and_errors,
    "dependencies": _dependencies,
    "labels of own instruments": _values_of_own_instruments,
    "instruments": _instruments,
    "observations": _observations,
}
