"""`otel_coach.instrument()` and `uninstrument()`, without a server."""

import pytest

# In this process


def test_uninstrument_restores_everything():
    import gc

    from fastapi import FastAPI
    from langchain_core.callbacks import AsyncCallbackManager
    from starlette.applications import Starlette

    import otel_coach
    from otel_coach.settings import Settings

    def patched():
        calls = (Starlette.__call__, FastAPI.__call__, AsyncCallbackManager.on_chain_start)
        return (*calls, list(gc.callbacks))

    before = patched()
    otel_coach.instrument(settings=Settings())
    assert all(now != then for now, then in zip(patched(), before, strict=True))
    otel_coach.uninstrument()
    assert patched() == before


def test_an_installation_that_stays_off_says_so_once_and_the_host_goes_on(monkeypatch, caplog):
    import otel_coach
    from otel_coach.setup import installation

    def broken(*_args, **_kwargs):
        raise LookupError("no SDK at postgresql://me:secret@host")

    monkeypatch.setattr(installation, "Providers", broken)
    monkeypatch.setattr(installation, "_stays_off", False)
    otel_coach.instrument()
    otel_coach.instrument()
    assert installation.install() is None
    assert caplog.text.count("it cannot start (LookupError in test_instrument.py:") == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize("settings", [{"metrics_path": "/m"}, "/m", {}])
def test_instrument_says_which_settings_it_takes(settings):
    import otel_coach

    with pytest.raises(TypeError, match=r"takes otel_coach\.Settings\(\.\.\.\) or Settings\.from"):
        otel_coach.instrument(settings=settings)


@pytest.mark.parametrize("app", ["module:app", 7, lambda scope: None])
def test_instrument_says_what_it_takes(app):
    import otel_coach

    with pytest.raises(TypeError, match="FastAPI or Starlette application"):
        otel_coach.instrument(app)


@pytest.mark.parametrize(
    ("seconds_since", "granted"), [(None, 3.0), (0.5, 0.5), (60, 3.0)], ids=str
)
def test_only_what_follows_a_lifespan_at_once_ends_sooner(monkeypatch, seconds_since, granted):
    from otel_coach.settings import Settings, effective
    from otel_coach.setup import installation

    now, given = [1000.0], []
    monkeypatch.setattr(installation, "perf_counter", lambda: now[0])
    monkeypatch.setattr(installation, "run_at_once", lambda _, seconds: given.append(seconds))
    made = installation.Installation(effective(Settings(), {}))
    monkeypatch.setattr(type(made.providers), "is_idle", False)
    if seconds_since is not None:
        made.application_stopped(object())
        given.clear()
        now[0] += seconds_since
    made.exit()
    assert given == [granted]
    made.uninstrument()


def test_the_operators_switch_holds_for_settings_in_code_too(monkeypatch):
    import otel_coach
    from otel_coach.settings import Settings
    from otel_coach.setup import installation

    monkeypatch.setenv("OTEL_COACH_DISABLED", "true")
    otel_coach.instrument(settings=Settings())
    assert installation.installed() is None


def test_taking_back_what_never_was_imports_nothing(monkeypatch):
    import sys

    import otel_coach

    monkeypatch.delitem(sys.modules, "otel_coach.setup.installation")
    otel_coach.uninstrument()
    assert "otel_coach.setup.installation" not in sys.modules
