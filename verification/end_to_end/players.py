"""Simulates users as on a busy day, so that the dashboards show something."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Final

import httpx

from tests.support.users import ADVANCED, LEGACY, Users

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stack import Stack

_PLAYERS: Final = 6
_MAX_PAUSE: Final = 2.0


def _ways(users: Users, stack: Stack, dice: random.Random) -> dict[Callable[[], object], int]:
    """Returns what a player may do, with the relative frequencies."""
    tokens = dice.randint(5, 60)
    think = f"[delay:{dice.random():.2f}] [pace:{dice.random() / 20:.3f}] [tokens:{tokens}]"
    return {
        lambda: users.chat(f"[tool:recent_activities] {think} How was my week?"): 30,
        lambda: users.chat(f"{think} [cached:{tokens // 2}] How do I start?", endpoint=LEGACY): 20,
        lambda: users.plan(f"[tool:weather] {think} A marathon"): 15,
        lambda: users.plan(f"{think} Ten kilometres", endpoint=ADVANCED): 10,
        lambda: users.leave_chat("[pace:0.1] [tokens:80] Tell me everything"): 8,
        lambda: users.plan("[fail:500] A plan"): 3,
        lambda: users.chat("[cut] And now?"): 2,
        lambda: users.plan("[no-usage] A plan"): 2,
        lambda: users.chat("Hello", token=""): 3,
        lambda: users.chat("Hello", token=stack.token(scopes=())): 2,
        lambda: users.plan("A plan", key="wrong"): 2,
        lambda: users.get("/no/such/page"): 2,
        users.until_limited: 1,
    }


class Players:
    """Simulated users, each in a thread of its own, from `start` to `stop`."""

    def __init__(self, stack: Stack, seed: int | None = None) -> None:
        self._stack = stack
        self._dice = random.Random(seed)  # noqa: S311 - a game
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the users."""
        for _ in range(_PLAYERS):
            seed = self._dice.random()
            thread = threading.Thread(target=self._play, args=(seed,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stops the users."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _play(self, seed: float) -> None:
        dice = random.Random(seed)  # noqa: S311 - a game
        users = Users(self._stack)
        while not self._over.is_set():
            ways = _ways(users, self._stack, dice)
            (way,) = dice.choices(list(ways), ways.values())
            try:
                way()
            except (httpx.HTTPError, StopIteration):
                time.sleep(1)  # the database is down, so that the service breaks off, or restarts
            self._over.wait(dice.random() * _MAX_PAUSE)
        users.close()
