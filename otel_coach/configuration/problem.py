"""What is wrong with a variable, for the log and for `otel-coach doctor`."""

from __future__ import annotations

from typing import Self


class Problem(str):
    """One line: the variable, what is wrong with it, and what takes effect instead.

    `variable` is the variable that could not be used, or only in part.
    """

    __slots__ = ("variable",)
    variable: str

    def __new__(cls, variable: str, text: str) -> Self:
        self = super().__new__(cls, text)
        self.variable = variable
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.variable, str(self))
