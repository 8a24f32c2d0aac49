"""The local provider for other containers: by itself it listens on the loopback interface only."""

from collections import deque
from functools import partial

from provider import _Handler, _Server

_ENTRIES = 10_000  # of the ledger, which would grow for ever

_Server(("0.0.0.0", 8001), partial(_Handler, deque(maxlen=_ENTRIES))).serve_forever()  # noqa: S104
