"""Finds the provider that a call went to, and tells whether a model's entry is meant.

A clause says which names are meant. In the data it is one of:

- "=text", "^text", "$text", "~text": the name is, begins with, ends with or contains the text,
  which is in lower case
- "=": the name is the id of the entry
- "/regex": the regular expression is found in the name
- [clause, ...]: any of them holds; {"all": [clause, ...]}: all of them hold
"""

from __future__ import annotations

import operator
import re
from datetime import date
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Clause = Any
"""A JSON value, as described above."""

LITELLM: Final = "litellm"
"""No provider, but a library that writes the provider in front of the model: `openai/gpt-4o`."""
_COMPACT_DATE: Final = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "=": operator.eq,
    "^": str.startswith,
    "$": str.endswith,
    "~": operator.contains,
    "/": lambda name, text: re.search(text, name) is not None,
}


class Provider(NamedTuple):
    """What the list says of a provider, except for its models."""

    id: str
    start: int
    """Where the lines of its models begin, in bytes from where those of all models begin."""
    length: int
    """How many bytes these lines have."""
    api: str
    """The addresses of its API: "^" and their beginning, or "/" and a regular expression."""
    model_match: Clause
    """The names of models by which the provider is found if it is not named; None if by none."""
    provider_match: Clause
    """Names of the provider itself, besides its id; None if there are none."""
    fallbacks: Sequence[str]
    """The providers whose models it offers too, by id."""


def clause_matches(clause: Clause, name: str, own_id: str = "") -> bool:
    """Whether `name`, in lower case, is meant by `clause`, which stands in the entry `own_id`."""
    if isinstance(clause, str):
        kind, text = clause[0], clause[1:]
        return _TESTS[kind](name, text) if text else name == own_id.lower()
    if isinstance(clause, list):
        return any(clause_matches(one, name, own_id) for one in clause)
    return all(clause_matches(one, name, own_id) for one in clause["all"])


def named_provider(
    providers: Mapping[str, Provider], name: str, model: str
) -> tuple[str, str, Provider | None]:
    """Returns the provider's name, the model and the provider that `name` and `model` stand for.

    They differ from what is given if the call went through LiteLLM.
    """
    if name.lower() == LITELLM and "/" in model:
        real_name, real_model = model.split("/", 1)
        if real_name and (found := _by_name(providers, real_name)) is not None:
            return real_name, real_model, found
    return name, model, _by_name(providers, name)


def find_provider(
    providers: Mapping[str, Provider], model: str, name: str | None, api_url: str | None
) -> tuple[Provider, str]:
    """Returns the provider of a call, and the model as that provider names it, in lower case.

    The provider is found by its `name` if one is given, else by the address of its API if that is
    given, else by the model. A name or an address that the list does not have is an error.

    Raises:
        LookupError: the list has no such provider.
    """
    model = model.lower()
    if name is not None:
        name, model, found = named_provider(providers, name, model)
        if found is not None:
            return found, model
        if name.lower() != LITELLM:
            message = f"the price list has no provider {name!r}"
            raise LookupError(message)
    if api_url is not None:
        for provider in providers.values():
            if _is_address(provider.api, api_url):
                return provider, model
        message = f"the price list has no provider with the address {api_url!r}"
        raise LookupError(message)
    for provider in providers.values() if model else ():
        if provider.model_match is not None and clause_matches(provider.model_match, model):
            return provider, model
    message = f"the price list has no provider for a model {model!r}"
    raise LookupError(message)


def with_dashes(model: str) -> str:
    """Writes a compact date in `model` with dashes, at the end or before a dash or colon.

    LiteLLM and OpenRouter write `gpt-5.2-20251211` for `gpt-5.2-2025-12-11`.
    """
    return _COMPACT_DATE.sub(_written_out, model)


def _written_out(found: re.Match[str]) -> str:
    try:
        day = date(*(int(found.group(index)) for index in (2, 3, 4)))
    except ValueError:
        return found.group()
    return f"{found.group(1)}{day.isoformat()}"


def _by_name(providers: Mapping[str, Provider], name: str) -> Provider | None:
    name = name.lower().strip()
    if (found := providers.get(name)) is not None:
        return found
    for provider in providers.values():
        if provider.provider_match is not None and clause_matches(provider.provider_match, name):
            return provider
    return None


def _is_address(api: str, url: str) -> bool:
    kind, text = api[0], api[1:]
    return url.startswith(text) if kind == "^" else re.match(text, url) is not None
