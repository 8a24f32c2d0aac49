"""Redactors that an operator may name."""


def shout(text):
    return text.upper()


def fail(text):
    raise LookupError(text)
