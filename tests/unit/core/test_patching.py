"""Methods that are replaced, and what other packages have made of them before."""

from functools import wraps

import pytest
import wrapt

from otel_coach.core.patching import replace_method


class Client:
    def ask(self, text):
        return self, text

    @classmethod
    def of(cls, text):
        return cls, text


class Derived(Client):
    pass


def passing_on(original):
    @wraps(original)
    def ask(self, *args, **kwargs):
        return original(self, *args, **kwargs)

    return ask


@pytest.mark.parametrize("owner", [Client, Derived])
def test_a_wrapper_below_a_replacement_knows_whose_method_it_is(monkeypatch, owner):
    seen = []

    def wrapper(wrapped, instance, args, kwargs):
        seen.append((instance, args))
        return wrapped(*args, **kwargs)

    monkeypatch.setattr(owner, "ask", owner.ask)  # is restored at the end
    wrapt.wrap_function_wrapper(owner, "ask", wrapper)
    before = vars(owner)["ask"]
    restore = replace_method(owner, "ask", passing_on)
    client = owner()
    assert client.ask("hi") == (client, "hi")
    assert seen == [(client, ("hi",))]
    restore()
    assert vars(owner)["ask"] is before


def test_a_method_of_a_class_is_replaced_as_it_is():
    found = []

    def make(original):
        found.append(original)
        return original

    replace_method(Client, "of", make)()
    assert found == [vars(Client)["of"]]
    assert Client.of("hi") == (Client, "hi")
