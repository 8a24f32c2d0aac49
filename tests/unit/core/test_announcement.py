"""Which logger says what is for the operator."""

import logging

import pytest

from otel_coach.core.announcement import announce

LOGGERS = ("uvicorn.error", "gunicorn.error", "hypercorn.error", "_granian", "otel_coach")


@pytest.fixture(autouse=True)
def without_servers():
    """As in a process in which no server has made a logger."""
    known = logging.root.manager.loggerDict
    parents = [name.partition(".")[0] for name in LOGGERS[:-1]]
    before = {name: known.pop(name, None) for name in (*LOGGERS[:-1], *parents)}
    yield
    for name, logger in before.items():
        known.pop(name, None)
        if logger is not None:
            known[name] = logger


class Keeps(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.name, record.levelname, record.getMessage()))


def test_without_any_logging_it_is_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("otel_coach"), "propagate", False)
    announce("100% %s of it")
    assert capsys.readouterr().err == "INFO: otel-coach: 100% %s of it\n"


@pytest.mark.parametrize("name", LOGGERS[:-1])
def test_the_server_that_has_a_logger_says_it(capsys, name):
    handler = Keeps()
    server = logging.getLogger(name)
    server.addHandler(handler)
    server.setLevel(logging.INFO)
    announce("hi")
    assert handler.lines == [(name, "INFO", "otel-coach: hi")]
    server.setLevel(logging.WARNING)
    announce("hi")
    assert len(handler.lines) == 1
    server.removeHandler(handler)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("level", "count"), [(logging.INFO, 1), (logging.WARNING, 0)])
def test_the_applications_own_configuration_decides(capsys, monkeypatch, level, count):
    handler = Keeps()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    before = root.level
    root.setLevel(level)
    announce("hi")
    root.setLevel(before)
    assert handler.lines == [("otel_coach", "INFO", "otel-coach: hi")] * count
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("how", ["level", "disabled", "all disabled"])
def test_what_the_application_has_switched_off_is_not_said(capsys, monkeypatch, how):
    logger = logging.getLogger("otel_coach")
    monkeypatch.setattr(logger, "propagate", False)
    if how == "level":
        monkeypatch.setattr(logger, "level", logging.ERROR)
    elif how == "disabled":
        monkeypatch.setattr(logger, "disabled", True)
    else:
        monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    announce("of it")
    assert capsys.readouterr().err == ""
