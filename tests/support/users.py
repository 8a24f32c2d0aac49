"""One round of users: what they send, and what they received, written down by themselves."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stack import Stack

CHAT = "/v1/coaching/chat"
LEGACY = "/v1/coaching/chat-legacy"
PLAN = "/v1/coaching/generate-training-plan"
ADVANCED = "/v1/coaching/generate-training-plan-advanced"
TALK = "/v1/coaching/talk"

_MAX_TRIES = 40


@dataclass
class Notes:
    """What the users saw."""

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Responses by endpoint, method and status."""
    left: Counter[str] = field(default_factory=Counter)
    """Streams that a user left before their end, by endpoint."""
    turns: int = 0
    """Messages that a user sent by a WebSocket."""
    refused_talks: int = 0
    """WebSockets that the service did not accept."""


class Users:
    """Sends requests to the service and keeps `notes`."""

    def __init__(self, stack: Stack) -> None:
        self.notes = Notes()
        self._stack = stack
        self._client = httpx.Client(base_url=stack.url, timeout=30)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def chat(
        self, message: str, *, endpoint: str = CHAT, token: str | None = None
    ) -> httpx.Response:
        """Read a chat's stream to its end."""
        token = self._stack.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = {"message": message, "thread_id": "thread-1", "user_id": "user-1"}
        return self._post(endpoint, body, headers)

    def leave_chat(self, message: str, *, endpoint: str = CHAT, after: int = 2) -> None:
        """Leave a chat's stream after some chunks."""
        headers = {"Authorization": f"Bearer {self._stack.token()}"}
        with self._client.stream(
            "POST", endpoint, json={"message": message}, headers=headers
        ) as response:
            chunks = response.iter_raw()
            for _ in range(after):
                next(chunks)
        self.notes.answers[endpoint, "POST", response.status_code] += 1
        self.notes.left[endpoint] += 1

    def talk(self, *messages: str, token: str | None = None, leaves_after: int = 0) -> None:
        """Send messages by a WebSocket; read each answer, the last one for so many lines only."""
        token = self._stack.token() if token is None else token
        url = f"{self._stack.url.replace('http', 'ws', 1)}{TALK}"
        try:
            with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
                for number, message in enumerate(messages, 1):
                    socket.send(json.dumps({"message": message}))
                    self.notes.turns += 1
                    lines = leaves_after if number == len(messages) else 0
                    self._listen(socket, lines)
        except InvalidStatus:
            self.notes.refused_talks += 1

    def _listen(self, socket: ClientConnection, lines: int) -> None:
        for number, line in enumerate(iter(socket.recv, None), 1):
            if json.loads(line)["type"] in {"end", "error"}:
                return
            if number == lines:
                self.notes.left[TALK] += 1
                return

    def plan(self, goal: str, *, endpoint: str = PLAN, key: str | None = None) -> httpx.Response:
        """Ask for a training plan."""
        key = self._stack.api_key if key is None else key
        return self._post(endpoint, {"goal": goal, "weeks": 4}, {"X-API-Key": key} if key else {})

    def leave_plan(self, goal: str, *, after: float) -> None:
        """Ask for a training plan, and leave after some seconds, before the answer."""
        with suppress(httpx.ReadTimeout):
            headers = {"X-API-Key": self._stack.api_key}
            body = {"goal": goal, "weeks": 4}
            self._client.post(PLAN, json=body, headers=headers, timeout=after)

    def get(self, path: str, method: str = "GET", endpoint: str | None = None) -> httpx.Response:
        """Ask for anything; `endpoint` is the route's template where it is not the path."""
        response = self._client.request(method, path)
        self.notes.answers[endpoint or path, method, response.status_code] += 1
        return response

    def until_limited(self, endpoint: str = LEGACY) -> None:
        """Chat until the service answers 429."""
        for _ in range(_MAX_TRIES):
            if (
                self.chat("[tokens:1]", endpoint=endpoint).status_code
                == httpx.codes.TOO_MANY_REQUESTS
            ):
                return

    def _post(self, endpoint: str, body: object, headers: dict[str, str]) -> httpx.Response:
        response = self._client.post(endpoint, json=body, headers=headers)
        self.notes.answers[endpoint, "POST", response.status_code] += 1
        return response


def one_round(users: Users, stack: Stack, say: Callable[[str], None]) -> None:
    """All four endpoints, and each thing that can go wrong."""
    say("a chat with a tool that reads the database")
    users.chat("[tool:recent_activities] How was my week?")
    say("a chat in the older style")
    users.chat("[cached:4] How do I start?", endpoint=LEGACY)
    say("a training plan, after a look at the weather")
    users.plan("[tool:weather] [cached:2] [reasoning:3] A marathon")
    say("an advanced training plan")
    users.plan("Ten kilometres", endpoint=ADVANCED)
    say("a user who leaves in the middle of a stream")
    # So long that the whole answer never arrives at once, however busy the machine is.
    users.leave_chat("[pace:0.05] [tokens:80] Tell me everything")
    say("a provider that fails, and one whose stream is cut")
    users.plan("[fail:500] A plan")
    users.chat("[cut] And now?")
    say("a provider that does not say what it billed")
    users.plan("[no-usage] A plan", endpoint=ADVANCED)
    say("401 without and with a wrong token, 403 without the scope, 403 with a wrong key")
    users.chat("Hello", token="")
    users.chat("Hello", token="not-a-token")
    users.chat("Hello", token=stack.token(scopes=()))
    users.plan("A plan", key="wrong")
    say("404, 405, and 429 by slowapi")
    users.get("/no/such/page", endpoint="unmatched")
    users.get(CHAT)
    users.until_limited()
    say("a talk by WebSocket, one that its user leaves, and one that is refused")
    users.talk("How do I start?", "[tool:weather] And tomorrow?")
    users.talk("Hello", "[pace:0.05] [tokens:80] Tell me everything", leaves_after=3)
    users.talk("Hello", token="not-a-token")
