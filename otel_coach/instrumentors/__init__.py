"""One room per phenomenon; none knows another.

They speak to the recorder and to the OpenTelemetry API only, never to the SDK.
"""

from typing import Final

ASGI: Final = "otel_coach_asgi"
DEPENDENCIES: Final = "otel_coach_dependencies"
LANGCHAIN: Final = "otel_coach_langchain"
FASTAPI: Final = "fastapi"
PSYCOPG: Final = "psycopg"
"""Entry points of instrumentations, ours and the stock ones that came with us; the names that
OTEL_PYTHON_DISABLED_INSTRUMENTATIONS takes."""
