"""Users who come and go, as in `make up`, at the service in another container."""

import os
import signal
from functools import partial
from types import SimpleNamespace

from security import create_token
from settings import settings

from verification.end_to_end.players import Players

service = SimpleNamespace(
    url=os.environ["SERVICE_URL"],
    token=partial(create_token, "anna"),
    api_key=settings.api_key,
)
Players(service).start()
signal.pause()
