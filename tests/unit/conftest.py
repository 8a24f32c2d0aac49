"""Nothing here starts a server of an application, or another process: that is for integration."""

import os
import platform
import subprocess

import pytest
import uvicorn

platform.processor()  # asks `uname` once, as LangSmith does of itself


@pytest.fixture(autouse=True)
def _in_this_process_only(monkeypatch):
    def start(*_args, **_kwargs):
        pytest.fail("a test that starts a server or a process belongs into tests/integration")

    monkeypatch.setattr(subprocess.Popen, "_execute_child", start)
    monkeypatch.setattr(os, "fork", start, raising=False)
    monkeypatch.setattr(uvicorn.Server, "run", start)
