"""Users who come and go, as in `make up`, at the service in another container."""

import os
import signal
from functools import partial
from types import SimpleNamespace

from security import create_token
from settings import settings

from demo import stack

stack.API_KEY = settings.api_key  # before the users take it over
from e2e.players import Players  # noqa: E402

Players(SimpleNamespace(url=os.environ["SERVICE_URL"], token=partial(create_token, "anna"))).start()
signal.pause()
