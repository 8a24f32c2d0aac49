"""Tries the parts of the anthropic package that `compatibility` lists."""

from otel_coach.instrumentors.genai import trials


def takes_requests() -> bool:
    """Returns whether its clients send all calls through `request`."""
    return trials.takes_requests("anthropic", "Anthropic")


def keeps_iterators() -> bool:
    """Returns whether its streams keep their iterator where it is replaced."""
    return trials.keeps_iterators("anthropic")
