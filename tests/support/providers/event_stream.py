"""Amazon's event stream encoding: length-prefixed messages with headers and checksums.

https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final
from zlib import crc32

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
_STRING: Final = 7


def event_message(kind: str, payload: Any) -> bytes:
    """Returns the message of an event `kind` with a JSON payload."""
    headers = b"".join(
        _header(name, value)
        for name, value in (
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + body
    return message + struct.pack("!I", crc32(message))


def _header(name: str, value: str) -> bytes:
    encoded = value.encode()
    return (
        bytes([len(name)])
        + name.encode()
        + bytes([_STRING])
        + struct.pack("!H", len(encoded))
        + encoded
    )
