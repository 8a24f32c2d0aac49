"""Writes or checks the price list that comes with otel-coach, from the installed genai-prices.

`make prices` installs the newest one first.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_coach.pricing.convert import (
    DISTRIBUTION,
    UnknownMeaningError,
    installed_list,
    installed_version,
)
from otel_coach.pricing.equivalence import DifferentPricesError, write_proven_list
from otel_coach.pricing.listed import SHIPPED, ListedPrices, UnusableListError

if TYPE_CHECKING:
    from collections.abc import Iterator

LICENCE: Final = SHIPPED.with_name(f"LICENSE-{DISTRIBUTION}")


def main() -> int:
    """Returns the exit code: 0 if the list was written or is up to date, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.prices", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the list")
    action.add_argument("--check", action="store_true", help="exit 1 if it is out of date")
    arguments = parser.parse_args()
    try:
        problems = [*(out_of_date() if arguments.check else _write())]
    except (UnknownMeaningError, DifferentPricesError) as error:
        problems = [f"genai-prices {installed_version()}: {error}"]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def out_of_date() -> Iterator[str]:
    """Yields why the list that comes with otel-coach is not that of the installed genai-prices.

    Raises:
        UnknownMeaningError: genai-prices has something that cannot be converted.
    """
    cure = "refresh it with: make prices"
    try:
        about = ListedPrices().about
    except UnusableListError as error:
        yield f"{error}; {cure}"
        return
    if about.version != installed_version():
        yield (
            f"{SHIPPED.name} is that of genai-prices {about.version}, and {installed_version()} is "
            f"installed; {cure}"
        )
    elif SHIPPED.read_bytes() != installed_list(about.day):
        yield f"{SHIPPED.name} is not what genai-prices {about.version} has; {cure}"
    if not LICENCE.exists() or LICENCE.read_bytes() != _licence():
        yield f"{LICENCE.name} is not genai-prices' licence; {cure}"


def _write() -> Iterator[str]:
    if not [*out_of_date()]:
        sys.stdout.write(f"{SHIPPED.name} is that of genai-prices {installed_version()} already\n")
        return
    count = write_proven_list(SHIPPED)
    LICENCE.write_bytes(_licence())
    about = ListedPrices().about
    sys.stdout.write(
        f"{SHIPPED.name}: genai-prices {about.version}, prices of {about.day}; {count} prices are "
        "what genai-prices itself calculates\n"
    )
    yield from out_of_date()


def _licence() -> bytes:
    (path,) = (
        path for path in files(DISTRIBUTION) or () if path.parts[-2:] == ("licenses", "LICENSE")
    )
    return Path(str(path.locate())).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
