"""Servers that mean ill, pages that they send, and what the doctor says about them."""

import os
import time
from contextlib import contextmanager, suppress

from otel_coach.cli.doctor import diagnosed, service
from otel_coach.cli.doctor.examined import Examined
from otel_coach.core.traps import Finding
from otel_coach.settings import Settings
from tests.support.serving import tcp_server
from tests.support.stack import bin_path

INSTRUMENT = "opentelemetry-instrument"
PATH = f"{bin_path('')}{os.pathsep}{os.environ['PATH']}"
APPLICATION = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/v1/chat/{thread}")
def chat(thread): ...
"""
OK = b"HTTP/1.1 200 OK\r\n"
ERRORS = "otel_coach_errors_total"


@contextmanager
def hostile(pieces, pause=0.0):
    """A server that sends these pieces to each client; yields its address and what it was asked."""
    asked = []

    def answer(connection):
        with connection, suppress(OSError):
            asked.append(connection.recv(65536))
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)

    with tcp_server(answer) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics", asked


def page(text):
    return [OK, b"\r\n", text.encode()]


def examined(**environ):
    return Examined(Settings.from_env(environ), environ)


def findings(results):
    return [result for result in results if isinstance(result, Finding)]


def text_of(finding):
    """What is found, and its cure."""
    return f"{finding.what}; {finding.cure}"


def said(results):
    """Each finding as one text: what, and its cure."""
    return [text_of(finding) for finding in findings(results)]


def reported(url, token):
    """What is said about the page at `url`, where `token` is that of the environment."""
    environ = {"OTEL_COACH_METRICS_TOKEN": token} if token else {}
    return said(service.look(examined(**environ), url))


def diagnosis(command=(), url=None, *, starts=False, **environ):
    """By the name of the trap, what is said by all looks, as one text each: what, and its cure.

    If `starts`, otel-coach is started in another process, too, which takes a second.
    """
    by_name = {}
    for results in diagnosed(environ, command=command, url=url, starts=starts).values():
        for finding in findings(results):
            by_name.setdefault(finding.trap.name, []).append(text_of(finding))
    return by_name
