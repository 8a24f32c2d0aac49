"""The list of prices of all providers, read from its file as far as it is needed.

The file has a line with its format, version and day, one with the units and one with the providers,
in JSON; then a line for each model: [id, match] and [prices, variants, least seconds], separated by
a tab. `convert.py` writes it. To find a model, the `match` of each of its provider's models is
decoded. Prices are decoded and kept only for the model that is found.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple
from zlib import crc32

from otel_coach.pricing.match import (
    Provider,
    clause_matches,
    find_provider,
    named_provider,
    with_dashes,
)
from otel_coach.pricing.prices import Model
from otel_coach.pricing.units import Units

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from decimal import Decimal

    from otel_coach.pricing.match import Clause
    from otel_coach.pricing.prices import Prices
    from otel_coach.pricing.units import Counts

FORMAT: Final = 1
"""Changes with the meaning of the file."""
FORMAT_KEY: Final = "otel_coach_prices"
_BEGINNING: Final = f'{{"{FORMAT_KEY}":'.encode()
SHIPPED: Final = Path(__file__).parent / "data" / "prices.tsv"
"""The list that comes with otel-coach."""
OLD_DAYS: Final = 90
"""From this age on, a list is worth a warning."""
_MAX_FOUND: Final = 256
_MAX_FIRST_LINE: Final = 1000
_CHUNK: Final = 1 << 16
_DECODER: Final = json.JSONDecoder(parse_float=str)  # prices stay as they are written


class UnusableListError(Exception):
    """The file at `path` is no list of prices, or no longer the one that was read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"the price list {str(path)!r} {why}")


class ListOrigin(NamedTuple):
    """Where the prices of a list come from."""

    version: str
    """Of genai-prices."""
    day: date
    """The latest date in the prices themselves; they are not older than that."""

    def age_days(self, today: date | None = None) -> int:
        """Returns how many days old the prices are."""
        return max(0, ((today or datetime.now(UTC).date()) - self.day).days)


class Found(NamedTuple):
    """The entry for a model, as one provider offers it."""

    provider: str
    """The id of the provider that was asked."""
    owner: str
    """The id of the provider whose entry it is: some offer other providers' models too."""
    model: Model

    def prices(
        self, when: datetime | None = None, context: Mapping[str, str] | None = None
    ) -> Prices:
        """Returns the prices at the time `when` (now if None), in the context of the call.

        The context has, for example, the `service_tier`. It changes nothing where another provider
        owns the entry, since the tiers are that one's.
        """
        is_own = self.owner == self.provider
        return self.model.prices(when or datetime.now(UTC), context if is_own else None)

    def has_variant(self, context: Mapping[str, str]) -> bool:
        """Whether the entry has prices that are for this context only."""
        return self.owner == self.provider and self.model.has_variant(context)

    def has_price_for(self, usage_key: str) -> bool:
        """Whether the entry has a price for what is counted under `usage_key`."""
        return any(unit.usage_key == usage_key for unit, _ in self.prices().by_unit)

    def billed(self, counts: Counts) -> Counts:
        """Returns `counts`, raised to the minimum that the provider charges for, if it has one."""
        return self.model.billed(counts) if self.owner == self.provider else counts

    def cost(
        self,
        counts: Mapping[str, object],
        when: datetime | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Decimal:
        """Returns what a call costs, in US dollars.

        Args:
            counts: what was counted, by usage key. Parts are counted in the whole too.
            when: the time of the call, now if None.
            context: what else the price depends on, such as the `service_tier`.

        Raises:
            ValueError: the counts contradict each other, or leave open what is to be paid.
        """
        billed = self.billed(self.model.validated(counts))
        return self.prices(when, context).cost(billed)


class _Head(NamedTuple):
    line: bytes
    about: ListOrigin
    checksum: int


class _Index(NamedTuple):
    units: Units
    providers: Mapping[str, Provider]
    models: int
    """Where the lines of the models begin, in bytes."""


class ListedPrices:
    """The prices of the file at `path`, which is read when one is first looked for."""

    def __init__(self, path: Path = SHIPPED) -> None:
        self.path = path
        self._head: _Head | None = None
        self._index: _Index | None = None
        self._found = lru_cache(_MAX_FOUND)(self._search)
        """Entries by model, provider and address, or why there is none."""

    @property
    def about(self) -> ListOrigin:
        """Where the prices come from; only the file's first line is read for it.

        Raises:
            UnusableListError: the file is no list of prices.
        """
        return self._read_head().about

    @property
    def units(self) -> Units:
        """What can be counted and priced; the file is checked as a whole.

        Raises:
            UnusableListError: the file is no list of prices, or is damaged.
        """
        return self._read_index().units

    def find(self, model: str, provider: str | None = None, api_url: str | None = None) -> Found:
        """Returns the entry for `model`.

        The provider is found by its name if one is given, else by the address of its API if that is
        given, else by the model. A name or an address that the list does not have is an error.

        Raises:
            LookupError: the list has no such provider, or no such model of it.
            UnusableListError: the file is no list of prices, or not the one that it was.
        """
        found = self._found(model, provider, api_url)
        if isinstance(found, Found):
            return found
        raise LookupError(found)

    def provider(self, name: str) -> str | None:
        """Returns the id of the provider that is called `name`, None if there is none.

        Raises:
            UnusableListError: the file is no list of prices, or is damaged.
        """
        _, _, found = named_provider(self._read_index().providers, name, "")
        return None if found is None else found.id

    def offering(self, model: str) -> list[str]:
        """Returns the ids of the providers that have an entry of their own for `model`.

        Providers that are found by a model's name alone come first.

        Raises:
            UnusableListError: the file is no list of prices, or is damaged.
        """
        name = model.lower()
        found = [one for one in self._read_index().providers.values() if self._entry(one, name)]
        return [one.id for one in sorted(found, key=lambda one: one.model_match is None)]

    def is_found_by_models(self, provider: str) -> bool:
        """Whether that provider is found by a model's name alone."""
        return self._read_index().providers[provider].model_match is not None

    def names(self, provider: str | None = None) -> Iterator[str]:
        """Yields the ids of the models of `provider`, or of all.

        Raises:
            UnusableListError: the file is no list of prices, or is damaged.
        """
        for one in self._read_index().providers.values():
            if provider in {None, one.id}:
                yield from (own_id for own_id, _, _ in self._models(one))

    def providers(self) -> list[str]:
        """Returns the ids of all providers.

        Raises:
            UnusableListError: the file is no list of prices, or is damaged.
        """
        return [*self._read_index().providers]

    def _read_head(self) -> _Head:
        if self._head is None:
            try:
                with self._opened() as file:
                    line = file.readline(_MAX_FIRST_LINE)
                first = json.loads(line)
                if first[FORMAT_KEY] != FORMAT:
                    raise UnusableListError(
                        self.path, "was written for another version of otel-coach"
                    )
                about = ListOrigin(str(first["genai_prices"]), date.fromisoformat(first["day"]))
                self._head = _Head(line, about, int(first["crc32"], 16))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise UnusableListError(self.path, "is no list of prices") from error
        return self._head

    def _read_index(self) -> _Index:
        if self._index is None:
            head = self._read_head()
            with self._opened(head.line) as file:
                units, providers = file.readline(), file.readline()
                models = file.tell()
                checksum = crc32(providers, crc32(units))
                while part := file.read(_CHUNK):
                    checksum = crc32(part, checksum)
            if checksum != head.checksum:
                raise UnusableListError(
                    self.path, "is damaged: its checksum is not the one in its first line"
                )
            rows = (Provider(*row) for row in json.loads(providers))
            self._index = _Index(Units(json.loads(units)), {row.id: row for row in rows}, models)
        return self._index

    def _search(self, model: str, provider: str | None, api_url: str | None) -> Found | str:
        providers = self._read_index().providers
        try:
            asked, name = find_provider(providers, model, provider, api_url)
        except LookupError as error:
            return str(error)
        for spelling in dict.fromkeys((name, with_dashes(name))):
            for owner in (asked.id, *asked.fallbacks):
                if owner in providers and (entry := self._entry(providers[owner], spelling)):
                    return Found(asked.id, owner, entry)
        return f"the price list has no model {name!r} of {asked.id}"

    def _entry(self, provider: Provider, name: str) -> Model | None:
        for own_id, match, line in self._models(provider):
            if clause_matches(match, name, own_id):
                prices, variants, least_seconds = _DECODER.decode(line.partition(b"\t")[2].decode())
                return Model(own_id, prices, variants, least_seconds, self._read_index().units)
        return None

    def _models(self, provider: Provider) -> Iterator[tuple[str, Clause, bytes]]:
        """Yields the id and the match of each model of `provider`, with its line."""
        index = self._read_index()
        with self._opened(self._read_head().line) as file:
            file.seek(index.models + provider.start)
            lines = file.read(provider.length).split(b"\n")[:-1]
        # One call for all lines: a call for each takes 0.4 ms for 300 lines, not 0.03.
        heads = json.loads(b"[%b]" % b",".join(line.partition(b"\t")[0] for line in lines))
        for line, (own_id, match) in zip(lines, heads, strict=True):
            yield own_id, match, line

    @contextmanager
    def _opened(self, first_line: bytes | None = None) -> Generator[BinaryIO]:
        """Context manager: the file, after its first line if that is given.

        Raises:
            UnusableListError: it cannot be read, or its first line is another one.
        """
        try:
            with self.path.open("rb") as file:
                if first_line is not None and file.readline(_MAX_FIRST_LINE) != first_line:
                    raise UnusableListError(
                        self.path, "was replaced while it was in use: restart the service"
                    )
                yield file
        except OSError as error:
            raise UnusableListError(self.path, f"cannot be read ({error.strerror})") from error


def is_list(path: Path) -> bool:
    """Whether the file at `path` begins as a list of prices does.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def is_newer(version: str, other: str) -> bool:
    """Whether `version` of genai-prices comes after the `other`."""
    one, two = (tuple(map(int, re.findall(r"\d+", text))) for text in (version, other))
    return one > two
