"""Lists of prices, changed as tests need them."""

import json
from zlib import crc32

from otel_coach.pricing.listed import SHIPPED
from otel_coach.pricing.price_list import CallDetails


def changed_list(*replacements, **header):
    """The list that comes with otel-coach, with other bytes and the checksum of those."""
    first, body = SHIPPED.read_bytes().split(b"\n", 1)
    for old, new in replacements:
        assert old in body
        body = body.replace(old, new)
    fields = {**json.loads(first), "crc32": f"{crc32(body):08x}", **header}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n" + body


def usd(prices, usage, models, provider=None, **call):
    """What a call costs by `prices`, None if it has no price."""
    priced = prices.priced(usage, models, CallDetails(provider, **call))
    return None if priced is None else priced.usd
