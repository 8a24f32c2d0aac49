"""The figures that both sides are read into, and the checks of untrusted numbers."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_MAX_TOKENS: Final = 10**15
"""More than any provider bills in one line; a larger count is invalid."""
_MAX_USD: Final = Decimal(10**12)
_MAX_SHOWN: Final = 60
"""Characters of an untrusted name or value that are printed."""


class InputError(Exception):
    """An input cannot be used; the message is one line that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens of any kind (prompt, completion, embedding) and US dollars."""

    tokens: int = 0
    usd: Decimal = Decimal(0)

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.tokens + other.tokens, self.usd + other.usd)


class Report(NamedTuple):
    """What an export is called: `OpenAI costs`."""

    provider: str
    """Empty for a CSV file, which does not name it."""
    kind: str = ""
    """Empty for a page without lines, which does not say what it is a page of."""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class Item(NamedTuple):
    """One line of a provider's export. An empty time bucket is an item without figures."""

    report: Report
    """What it is a line of."""
    begin: float
    """Unix seconds at which the line's time begins (inclusive)."""
    end: float
    """Unix seconds at which it ends (exclusive)."""
    model: str = ""
    """The model as the provider names it; empty if the line names none."""
    tokens: int | None = None
    usd: Decimal | None = None
    fee: str = ""
    """What the dollars are for if not for tokens of a model: `web search tool calls`."""


@dataclass(slots=True)
class Invoice:
    """What the provider says, added up."""

    models: dict[str, Figures] = field(default_factory=dict[str, Figures])
    fees: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """US dollars that belong to no model, by what they are for."""
    spans: dict[Report, tuple[float, float]] = field(
        default_factory=dict[Report, tuple[float, float]]
    )
    """For each report, when its first line begins and its last one ends, in Unix seconds."""
    with_tokens: set[str] = field(default_factory=set[str])
    """The models whose tokens the export has."""
    with_usd: set[str] = field(default_factory=set[str])
    """The models whose US dollars the export has."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def span(self) -> tuple[float, float]:
        """When the export begins and ends, in Unix seconds."""
        begins, ends = zip(*self.spans.values(), strict=True)
        return min(begins), max(ends)


@dataclass(slots=True)
class Counted:
    """What otel-coach counted, added up."""

    source: str
    """Where it was read, as text for the report."""
    models: dict[str, Figures] = field(default_factory=dict[str, Figures])
    unmeasured: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    """For each model, calls whose tokens or dollars are not counted, by reason."""
    notes: list[str] = field(default_factory=list[str])


UNNAMED: Final = "(no model named)"
"""The fee that stands for dollars which the export does not split by model."""


def added_up(items: Iterable[Item]) -> Invoice:
    """Returns the sums of `items` by model."""
    invoice = Invoice()
    for item in items:
        begin, end = invoice.spans.get(item.report, (item.begin, item.end))
        invoice.spans[item.report] = min(begin, item.begin), max(end, item.end)
        if item.model:
            if item.tokens is not None:
                invoice.with_tokens.add(item.model)
            if item.usd is not None:
                invoice.with_usd.add(item.model)
            figures = Figures(item.tokens or 0, item.usd or Decimal(0))
            invoice.models[item.model] = invoice.models.get(item.model, Figures()) + figures
        elif item.usd is not None:
            fee = item.fee or UNNAMED
            invoice.fees[fee] = invoice.fees.get(fee, Decimal(0)) + item.usd
    return invoice


def token_count(value: object, where: str) -> int:
    """Returns `value` as a number of tokens; None (a field that a provider left out) is 0.

    Raises:
        InputError: It is no number of tokens.
    """
    if value is None:
        return 0
    number = value if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
    if number is None or not 0 <= number < _MAX_TOKENS or number != int(number):
        message = f"{where} is {_cut(value)}, which is no number of tokens; export it again"
        raise InputError(message)
    return int(number)


def dollars(value: object, where: str) -> Decimal:
    """Returns `value`, a number or its text, as an amount of money. A credit is negative.

    Raises:
        InputError: It is no amount of money.
    """
    amount = Decimal("NaN")
    if isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        with suppress(InvalidOperation):
            amount = Decimal(value)
    if not amount.is_finite() or not -_MAX_USD < amount < _MAX_USD:
        message = f"{where} is {_cut(value)}, which is no amount of money; export it again"
        raise InputError(message)
    return amount


def utc_text(seconds: float) -> str:
    """Returns Unix seconds as a date and time in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC".replace(
        ":00 UTC", " UTC"
    )


def unix_seconds(text: str) -> float:
    """Returns the Unix seconds that an ISO 8601 date, a date and time, or a number states.

    A text without a time zone is in UTC.

    Raises:
        ValueError: The text states no time.
    """
    try:
        seconds = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    try:
        datetime.fromtimestamp(seconds, UTC)  # finite, and in the calendar's range
    except (OverflowError, OSError) as error:
        raise ValueError(text) from error
    return seconds


def items_of_buckets(
    document: Mapping[str, Any],
    where: str,
    *,
    times: tuple[str, str],
    empty: Report,
    item: Callable[[Mapping[str, Any], float, float, str], Item],
) -> Iterator[Item]:
    """Yields the lines of a page of time buckets.

    Args:
        document: the page.
        where: the file, for messages.
        times: the names of a bucket's beginning and end.
        empty: the report of a bucket without lines.
        item: reads one line, given the bucket's beginning and end, and `where`.

    Raises:
        InputError: A bucket lacks its times or its lines.
    """
    begin_name, end_name = times
    for bucket in document["data"]:
        try:
            begin = unix_seconds(str(bucket[begin_name]))
            end = unix_seconds(str(bucket[end_name]))
            results = list(bucket["results"])
        except (LookupError, TypeError, ValueError):
            message = (
                f"{where} has a bucket without {begin_name}, {end_name} and results; export it "
                "again"
            )
            raise InputError(message) from None
        if not results:
            yield Item(empty, begin, end)
        for result in results:
            found = cast("Mapping[str, Any]", result) if isinstance(result, dict) else {}
            yield item(found, begin, end, where)


def short(text: str) -> str:
    """Returns an untrusted name or value, cut to what fits into a line."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _cut(value: object) -> str:
    try:
        return short(repr(str(value) if isinstance(value, Decimal) else value))
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
