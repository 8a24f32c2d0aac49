"""Reads the files that a provider's usage was exported to. Their content is untrusted."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from otel_coach.cli.reconciliation import anthropic_reports, csv_table, openai_reports
from otel_coach.cli.reconciliation.figures import InputError, added_up, utc_text
from otel_coach.cli.terminal import within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.cli.reconciliation.figures import Invoice, Item, Report

MAX_BYTES: Final = 64 << 20
"""The largest export file that is read; a year of hourly buckets of 20 models has about 50 MB."""
MAX_SECONDS: Final = 30.0
"""Seconds in which a file must have been read: it may be a pipe that nobody writes to."""


def read(paths: Sequence[str]) -> Invoice:
    """Returns the sums of all files.

    Raises:
        InputError: A file cannot be read or is no export, or the files do not belong together.
    """
    seen: dict[str, str] = {}
    pages: list[list[Item]] = []
    unfinished: dict[Report, bool] = {}
    finished = set[str]()
    """Providers of which a last page with an empty bucket was read: it may be the last page of any
    of their reports."""
    for path in paths:
        text = file_text(path, MAX_BYTES)
        if text.lstrip()[:1] not in {"{", "["}:
            _only_once(seen, text, path)
            pages.append(list(csv_table.items(text, path)))
            continue
        for document in _documents(text, path):
            _only_once(seen, json.dumps(document, sort_keys=True, default=str), path)
            pages.append(list(_items(document, path)))
            more = document.get("has_more") is True
            for report in {item.report for item in pages[-1]}:
                # A page without lines does not say of which report it is the last one.
                if not (report.kind or more):
                    finished.add(report.provider)
                unfinished[report] = unfinished.get(report, True) and more
    invoice = added_up(_with_reports(pages))
    invoice.notes += _overlaps(pages)
    invoice.notes += [
        f"the export of {report} has more pages (has_more): fetch them with page=next_page, and "
        "name all files"
        for report, more in unfinished.items()
        if more and report in invoice.spans and report.provider not in finished
    ]
    _check(invoice, ", ".join(paths))
    return invoice


def file_text(path: str, most: int, cure: str = "name a file that exists") -> str:
    """Returns a file's text. `cure` says what to name if there is no such file.

    Raises:
        InputError: It cannot be read, has more than `most` bytes, or is no text.
    """

    def content() -> bytes:
        with Path(path).open("rb") as file:
            return file.read(most + 1)

    try:
        found = within(MAX_SECONDS, content)
        text = found.decode("utf-8-sig") if len(found) <= most else None
    except TimeoutError:
        message = f"{path} was not read within {MAX_SECONDS:g} s; name a regular file"
        raise InputError(message) from None
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            message = f"{path} is no text in UTF-8; unpack it, or export it as JSON or CSV"
        else:
            why = getattr(error, "strerror", None) or error
            message = f"{path} cannot be read ({why}); {cure}"
        raise InputError(message) from None
    if text is None:
        message = f"{path} has more than {most >> 20} MB; name a file of a shorter span of time"
        raise InputError(message)
    return text


def _documents(text: str, path: str) -> list[Mapping[str, Any]]:
    """Returns the JSON objects of a file: one, a list, or several one after the other."""
    text = text.lstrip()
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_number)
    found: list[object] = []
    place = 0
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            found += cast("list[object]", value) if isinstance(value, list) else [value]
            while place < len(text) and text[place].isspace():
                place += 1
    except (ValueError, ArithmeticError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        message = f"{path} is no JSON ({why}); export it again"
        raise InputError(message) from None
    return [cast("Mapping[str, Any]", one) if isinstance(one, dict) else {} for one in found]


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _items(document: Mapping[str, Any], path: str) -> Iterator[Item]:
    for kind in (openai_reports, anthropic_reports):
        if kind.is_page(document):
            return kind.items(document, path)
    if "error" in document:
        message = (
            f"{path} is the provider's answer to a request that failed, no export; export it "
            "again, with an admin key"
        )
        raise InputError(message)
    message = (
        f"{path} is JSON, but no known export; known are OpenAI's /v1/organization/usage/... and "
        "/v1/organization/costs, and Anthropic's /v1/organizations/usage_report/messages and "
        "/v1/organizations/cost_report"
    )
    raise InputError(message)


def _only_once(seen: dict[str, str], text: str, path: str) -> None:
    if text in seen:
        message = f"{path} has the same page as {seen[text]}; name each page once"
        raise InputError(message)
    seen[text] = path


def _with_reports(pages: Iterable[Sequence[Item]]) -> list[Item]:
    """Returns all items; an empty bucket gets the report of the lines of its page.

    Those of a page without any line count for all reports of their provider.
    """
    items: list[Item] = []
    unknown: list[Item] = []
    for page in pages:
        known = [item.report for item in page if item.report.kind]
        if page and not known:
            unknown += page
            continue
        items += [item if item.report.kind else item._replace(report=known[0]) for item in page]
    reports = {item.report for item in items}
    for item in unknown:
        of_provider = [report for report in reports if report.provider == item.report.provider]
        items += [item._replace(report=report) for report in of_provider or [item.report]]
    return items


def _overlaps(pages: Iterable[Sequence[Item]]) -> Iterator[str]:
    """Yields a note if two pages of one report have lines of the same time."""
    seen: dict[tuple[Report, float], int] = {}
    for number, page in enumerate(pages):
        for item in page:
            if item.tokens is None and item.usd is None:
                continue
            if seen.setdefault((item.report, item.begin), number) != number:
                yield (
                    f"two pages of {item.report} have lines of {utc_text(item.begin)}: make sure "
                    "that nothing is in both"
                )
                return


def _check(invoice: Invoice, paths: str) -> None:
    if not invoice.spans:
        message = f"{paths} has no lines; export a span of time in which there were calls"
        raise InputError(message)
    begin, end = invoice.span
    if not begin < end:
        message = f"{paths} ends before it begins ({utc_text(begin)}); export it again"
        raise InputError(message)
    if not any(figures.tokens or figures.usd for figures in invoice.models.values()) and not any(
        invoice.fees.values()
    ):
        message = (
            f"{paths} has no usage from {utc_text(begin)} to {utc_text(end)}; export the span of "
            "time in which the calls were made"
        )
        raise InputError(message)
    if len(set(invoice.spans.values())) > 1:
        spans = ", ".join(
            f"{report} from {utc_text(begin)} to {utc_text(end)}"
            for report, (begin, end) in sorted(invoice.spans.items(), key=lambda row: str(row[0]))
        )
        message = f"the exports are of different times ({spans}); export the same span of each"
        raise InputError(message)
