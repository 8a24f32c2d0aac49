"""One module or subpackage per instrumented technology; they share `genai` and import no other.

They record through the recorder and the OpenTelemetry API, and never use the SDK.
"""

from typing import Final

ANTHROPIC: Final = "otel_coach_anthropic"
ASGI: Final = "otel_coach_asgi"
DEPENDENCIES: Final = "otel_coach_dependencies"
LANGCHAIN: Final = "otel_coach_langchain"
OPENAI: Final = "otel_coach_openai"
FASTAPI: Final = "fastapi"
PSYCOPG: Final = "psycopg"
"""Entry points of otel-coach's own instrumentations and of the contrib ones that it uses; these are
the names that OTEL_PYTHON_DISABLED_INSTRUMENTATIONS takes."""
OWN: Final = frozenset({ANTHROPIC, ASGI, DEPENDENCIES, LANGCHAIN, OPENAI})
"""otel-coach's own."""
LOADED_HERE: Final = frozenset({FASTAPI, PSYCOPG})
"""Contrib instrumentations that otel-coach loads itself where it needs them."""
