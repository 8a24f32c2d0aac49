"""Draws the requests to send from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from verification.oracle.matrix import CELLS, OUTLIVES

if TYPE_CHECKING:
    from verification.oracle.endings import Ending
    from verification.oracle.ways import Way


@dataclass(frozen=True)
class Order:
    """One request of the plan."""

    number: int
    way: Way
    ending: Ending
    text: str

    @property
    def outlives(self) -> bool:
        """Whether its model runs to the end although its reader has stopped."""
        return (self.way.name, self.ending.name) in OUTLIVES

    def __str__(self) -> str:
        return f"#{self.number} {name_of(self.way, self.ending)}"


def name_of(way: Way, ending: Ending) -> str:
    """Returns a cell's name, in the form that `--cells` accepts."""
    return f"{way.route}/{way.name}/{ending.name}"


def orders(seed: int, count: int, cells: str = "*") -> list[Order]:
    """Returns `count` requests of the matching cells; none repeats before each has been drawn."""
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    fitting = [cell for cell in CELLS if fnmatch(name_of(*cell), cells)]
    deck: list[tuple[Way, Ending]] = []
    drawn: list[Order] = []
    for number in range(count if fitting else 0):
        if not deck:
            deck = list(fitting)
            chance.shuffle(deck)
        drawn.append(_order(number, deck.pop(), chance))
    return drawn


def short_plan(seed: int) -> list[Order]:
    """Returns few requests, among which each way and each ending is at least once."""
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    deck = list(CELLS)
    chance.shuffle(deck)
    seen: set[Way | Ending] = set()
    drawn: list[Order] = []
    for cell in deck:
        if not seen.issuperset(cell):
            seen.update(cell)
            drawn.append(_order(len(drawn), cell, chance))
    return drawn


def _order(number: int, cell: tuple[Way, Ending], chance: random.Random) -> Order:
    way, ending = cell
    n, k, m = chance.randint(1, 12), chance.randint(0, 3), chance.randint(0, 4)
    return Order(number, way, ending, ending.text.format(n=n, k=k, m=m))
