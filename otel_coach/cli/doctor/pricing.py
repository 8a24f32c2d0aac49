"""Which prices are used, whether their file can be read, and how old they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otel_coach.cli import prices
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import (
    GATEWAY,
    PRICES_FILE,
    PRICES_OLD,
    PRICES_UNREADABLE,
)
from otel_coach.configuration.names import hint, nearest
from otel_coach.pricing.listed import OLD_DAYS, ListedPrices, UnusableListError
from otel_coach.pricing.match import LITELLM
from otel_coach.pricing.own_prices import UNUSABLE, read_file, unusable_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding
    from otel_coach.pricing.own_prices import OwnPrice


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields what is wrong with the prices, and by which list calls are priced."""
    settings = examined.settings
    own: Mapping[str, OwnPrice] = {}
    listed = None
    if (path := settings.prices_file) is not None:
        try:
            own, listed = read_file(Path(path))
        except UNUSABLE as error:
            yield PRICES_FILE.found(line=unusable_line(path, error))
    listed = listed or ListedPrices()
    try:
        about = listed.about
    except UnusableListError as error:
        yield PRICES_UNREADABLE.found(reason=error)
        return
    yield from map(Fact, prices.state(own, listed))
    for host, name in settings.gateways.items():
        if listed.provider(name) is None and name.lower() != LITELLM:
            known = listed.providers()
            meant = nearest(name, known)
            yield GATEWAY.found(
                host=host,
                name=name,
                hint=hint(meant),
                entry=f"{host}={meant or 'PROVIDER'}",
                known=", ".join(known),
            )
    if (days := about.age_days()) > OLD_DAYS:
        origin = f"genai-prices {about.version} of {about.day}"
        yield PRICES_OLD.found(days=days, origin=origin)
