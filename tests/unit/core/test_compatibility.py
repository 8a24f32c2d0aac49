"""A library that is a little different costs what is listed for it, and nothing else."""

import ast
import asyncio
import uuid
from pathlib import Path

import pytest
from fastapi.routing import APIRouter
from langchain_core.callbacks import manager
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import SpanProcessor

import otel_coach
from otel_coach.core import compatibility
from otel_coach.testing import measuring
from tests.support.doctor import diagnosis
from tests.support.versions import HAS_FRONTENDS

SUFFIXES = {"_bucket", "_count", "_sum", "_created"}
"""Ends of Prometheus names, which are no private names."""
CALLS = "agent_llm_requests_total"
OWN = {"_provider", "_instance", "_histogram", "_default"}
"""Private names of otel-coach's own in files that use private names of others."""
TOOL_CALLS = "agent_tool_calls_total"
FAULTS = "otel_coach_errors_total"


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(compatibility, "_logged", set())


def ask():
    model = FakeListChatModel(responses=["hi"])
    assert model.invoke("x").content == "hi"
    assert double.invoke({"number": 4}) == 8
    assert asyncio.run(model.ainvoke("x")).content == "hi"


# The anthropic package is in the environment of `make test-canary`, which tries its row.
HERE = [part for part in compatibility.PARTS if part is not compatibility.ANTHROPIC_HEADERS]


@pytest.mark.parametrize("part", HERE, ids=lambda part: part.name)
def test_every_part_is_as_it_was_in_the_versions_that_are_installed(part):
    assert part.is_there
    assert part.holds()


OVERRIDDEN = {"_receive_metrics", "_at_fork_reinit"}


def test_every_private_name_in_the_code_is_in_the_table():
    found = set()
    for path in Path(otel_coach.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            found.update(private_names(node, sees_attributes="ruff: noqa: SLF001" in text))
    found = {name for name in found if name.startswith("_") and not name.startswith("__")}
    assert found - OWN == {name for part in compatibility.PARTS for name in part.private}


def private_names(node, *, sees_attributes):
    """Names in `getattr`, `hasattr`, `attrgetter`, imports, and in tuples of private names.

    Attributes count where ruff is told to allow them.
    """
    match node:
        case ast.ImportFrom() | ast.Import():
            module = getattr(node, "module", "") or ""
            is_own = module.startswith(("otel_coach", "__future__"))
            return () if is_own else [*module.split("."), *(one.name for one in node.names)]
        case (
            ast.Call(func=ast.Name("getattr" | "hasattr"), args=[_, ast.Constant(name), *_])
            | ast.Call(func=ast.Name("attrgetter"), args=[ast.Constant(name)])
        ):
            return (name,)
        case ast.Attribute(attr=name) if sees_attributes:
            return (name,)
        case ast.FunctionDef(name=name) if name in OVERRIDDEN:
            return (name,)
        case ast.AnnAssign(value=ast.Tuple(elts=elements)):
            names = [getattr(element, "value", None) for element in elements]
            are_private = all(isinstance(name, str) and name.startswith("_") for name in names)
            return set(names) - SUFFIXES if are_private else ()
    return ()


def test_a_method_that_moved_to_a_base_class_is_observed_there_and_given_back(monkeypatch):
    class Base:
        """Where the methods are now."""

    moved = manager.AsyncCallbackManagerForRetrieverRun
    monkeypatch.setattr(Base, "on_retriever_end", moved.on_retriever_end, raising=False)
    monkeypatch.delattr(moved, "on_retriever_end")
    bases = moved.__bases__
    moved.__bases__ = (*bases, Base)
    try:
        with measuring() as measured:
            assert "on_retriever_end" in vars(moved)
            ask()
            page = measured.page()
    finally:
        moved.__bases__ = bases
    assert "on_retriever_end" not in vars(moved)
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 2
    assert page.sum(FAULTS) == 0


def test_a_kind_of_run_that_is_told_otherwise_costs_that_kind_alone(monkeypatch, caplog):
    kinds = manager.CallbackManagerForToolRun, manager.AsyncCallbackManagerForToolRun
    for kind in kinds:
        for cls in kind.__mro__:
            if "on_tool_error" in vars(cls):
                monkeypatch.delattr(cls, "on_tool_error")
    before = {kind: dict(vars(kind)) for kind in kinds}
    with measuring() as measured:
        assert {kind: dict(vars(kind)) for kind in kinds} == before
        ask()
        page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 2
    assert page.sum(TOOL_CALLS) == page.sum(FAULTS) == 0
    assert caplog.text.count(compatibility.TOOLS.lost) == 1


def test_ids_that_are_made_anew_each_time_make_no_good_call_an_aborted_one(monkeypatch, caplog):
    made = manager.BaseRunManager.__init__

    def init(self, *, run_id, **others):
        made(self, run_id=run_id, **others)
        self.text = str(self.__dict__.pop("run_id"))

    monkeypatch.setattr(manager.BaseRunManager, "__init__", init)
    fresh = property(
        lambda self: uuid.UUID(self.text), lambda self, given: vars(self).update(run_id=given)
    )
    monkeypatch.setattr(manager.BaseRunManager, "run_id", fresh, raising=False)
    with measuring() as measured:
        ask()
        page = measured.page()
    assert page.sum(CALLS, status="ok") == page.sum(CALLS) == 2
    assert page.sum(TOOL_CALLS, status="ok") == 1
    assert caplog.text.count(compatibility.RUN_IDS.lost) == 1


def test_arguments_go_on_as_they_came_whatever_the_signature(monkeypatch):
    got = []

    def on_llm_new_token(self, token, index=0, *more, chunk=None, **others):
        got.append((token, index, more, chunk, others))
        return "told"

    kind = manager.CallbackManagerForLLMRun
    monkeypatch.setattr(kind, "on_llm_new_token", on_llm_new_token)
    with measuring() as measured:
        run = kind.get_noop_manager()
        assert run.on_llm_new_token("a", 1, 2, chunk="c", other=3) == "told"
        assert run.on_llm_new_token(token="a") == "told"
        assert measured.page().sum(FAULTS) == 0
    assert got == [("a", 1, (2,), "c", {"other": 3}), ("a", 0, (), None, {})]


@pytest.mark.parametrize(
    ("part", "owner", "name"),
    [
        pytest.param(
            *(compatibility.FRONTENDS, APIRouter, "_match_low_priority"),
            marks=pytest.mark.skipif(not HAS_FRONTENDS, reason="this FastAPI has no frontend()"),
        ),
        (compatibility.ENDINGS, SpanProcessor, "_on_ending"),
        (compatibility.CHAINS, manager.CallbackManager, "on_chain_start"),
        (compatibility.TOKENS, manager, "AsyncCallbackManagerForLLMRun"),
        (compatibility.PROPAGATORS, CompositePropagator, "__init__"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_part_that_is_gone_is_shown_by_doctor_with_what_is_lost(monkeypatch, part, owner, name):
    if name == "__init__":
        monkeypatch.setattr(owner, name, lambda *_: None)
    else:
        for cls in getattr(owner, "__mro__", (owner,)):
            if name in vars(cls):
                monkeypatch.delattr(cls, name)
    (told,) = [one for one in diagnosis()["library-changed"] if one.startswith(part.name)]
    assert told.startswith(f"{part.name}: this does not hold")
    assert f"so {part.lost}; pip install" in told


def test_to_try_the_parts_is_not_measured():
    with measuring() as measured:
        for part in (compatibility.NATIVE_TELEMETRY, compatibility.FRONTENDS):
            assert part.holds()
        assert measured.page().sum("http_server_request_duration_seconds_count") == 0
        assert not measured.spans
