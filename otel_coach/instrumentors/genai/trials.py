"""Tries the parts of providers' packages that `compatibility` lists."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

_PREFIXES = ("", "Async")


def takes_requests(module: str, client: str) -> bool:
    """Returns whether a package's clients send all calls through `request`.

    `ClientCalls` requires that.

    `client` is the class of its client; the asynchronous one has `Async` in front of its name.
    """
    package = import_module(module)
    for prefix in _PREFIXES:
        request: Any = getattr(package, prefix + client).request
        names = list(inspect.signature(request).parameters)
        if names[1:3] != ["cast_to", "options"] or "stream" not in names:
            return False
        if inspect.iscoroutinefunction(request) != bool(prefix):
            return False
    return True


def keeps_iterators(module: str) -> bool:
    """Returns whether the streams of a package have the attribute that `watch_chunks` replaces."""
    package = import_module(module)
    streams = [getattr(package, f"{prefix}Stream") for prefix in _PREFIXES]
    return all(_has_iterator(stream) for stream in streams)


def _has_iterator(stream: Any) -> bool:
    return hasattr(stream, "_iterator") or "_iterator" in stream.__init__.__code__.co_names
