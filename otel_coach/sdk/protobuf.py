"""Writes protobuf's wire format and OTLP's attribute values, without the protobuf package.

That package takes 2 MB of memory, for a parser and reflection that nothing here needs. The format:
https://protobuf.dev/programming-guides/encoding; the field numbers:
https://github.com/open-telemetry/opentelemetry-proto, which never change.
"""

from __future__ import annotations

from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
"""Wire types."""
_UINT64_MAX: Final = 2**64 - 1
_INT64_LIMIT: Final = 2**63
_pack_double: Final = Struct("<d").pack


def varint(number: int) -> bytes:
    """Returns `number`, which is not negative, seven bits to a byte."""
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def varint_tag(field: int) -> bytes:
    """Returns what precedes an integer in `field`."""
    return varint(field << 3 | _VARINT)


def fixed64_tag(field: int) -> bytes:
    """Returns what precedes eight bytes in `field`."""
    return varint(field << 3 | _FIXED64)


def fixed32_tag(field: int) -> bytes:
    """Returns what precedes four bytes in `field`."""
    return varint(field << 3 | _FIXED32)


def delimited_tag(field: int) -> bytes:
    """Returns what precedes the length of a text, bytes or a message in `field`."""
    return varint(field << 3 | _LENGTH_DELIMITED)


_LENGTHS: Final = tuple(map(varint, range(128)))
"""The lengths of most values, each in one byte."""


def delimited(tag: bytes, value: bytes) -> bytes:
    """Returns the field that `tag` begins, with the length of `value`."""
    length = len(value)
    return b"".join((tag, _LENGTHS[length] if length < len(_LENGTHS) else varint(length), value))


def text(tag: bytes, value: str | None) -> bytes:
    """Returns the field that `tag` begins; an empty text is left out, as in all of proto3.

    Raises:
        TypeError: it is not a text.
        UnicodeEncodeError: it cannot be encoded as UTF-8.
    """
    return delimited(tag, str.encode(value)) if value else b""


def count(tag: bytes, number: int) -> bytes:
    """Returns the field that `tag` begins; 0 is left out, as in all of proto3."""
    return tag + varint(number) if number else b""


_KEY: Final = delimited_tag(1)
_VALUE: Final = delimited_tag(2)
_STRING: Final = delimited_tag(1)
_BOOL: Final = varint_tag(2)
_BOOL_VALUES: Final = {flag: _BOOL + _LENGTHS[flag] for flag in (False, True)}
_INT: Final = varint_tag(3)
_DOUBLE: Final = fixed64_tag(4)
_ARRAY: Final = delimited_tag(5)
_ELEMENT: Final = delimited_tag(1)
_BYTES: Final = delimited_tag(7)


def _string(value: str) -> bytes:
    return delimited(_STRING, value.encode())


def _integer(value: int) -> bytes:
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise ValueError(value)
    return _INT + varint(value & _UINT64_MAX)


def _double(value: float) -> bytes:
    return _DOUBLE + _pack_double(value)


def _array(values: Iterable[object]) -> bytes:
    elements = [delimited(_ELEMENT, _any_value(value)) for value in values]
    return delimited(_ARRAY, b"".join(elements))


_ANY_VALUES: Final[Mapping[type, Callable[[Any], bytes]]] = {
    str: _string,
    bool: _BOOL_VALUES.__getitem__,
    int: _integer,
    float: _double,
    bytes: partial(delimited, _BYTES),
    tuple: _array,
    list: _array,
}


def _any_value(value: Any) -> bytes:
    return _ANY_VALUES[type(value)](value)


def attribute(tag: bytes, key: str, value: object) -> bytes:
    """Returns an attribute as the field that `tag` begins, OTLP's message `KeyValue`.

    Raises:
        KeyError: `value` has none of the types that most attributes have.
        TypeError: `key` is not a text.
        ValueError: `value` cannot be encoded.
    """
    message = delimited(_KEY, str.encode(key)) if key else b""
    return delimited(tag, message + delimited(_VALUE, _any_value(value)))


def attributes(tag: bytes, values: Mapping[str, object] | None) -> bytes:
    """Returns each attribute as a field that `tag` begins; raises what `attribute` does."""
    return b"".join(attribute(tag, key, value) for key, value in (values or {}).items())
