"""Whether an exception came into our code from outside, in the middle of it.

A signal handler runs wherever the main thread happens to be, and what it raises (Celery's soft time
limit, pytest-timeout, a timeout of the application's own) comes out of that place. So does an
exception that one thread sets in another (dramatiq's and RQ's time limits). Neither is a fault of
the code that was interrupted. Only faults are asked about, so this may take some microseconds.
"""

from __future__ import annotations

import functools
import signal
import sys
from inspect import CO_VARARGS
from opcode import opmap
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_RAISE_NOTHING: Final = frozenset(
    opmap[name] for name in ("JUMP_BACKWARD", "RESUME") if name in opmap
)
"""Instructions at which Python looks for signals and for exceptions that other threads set."""
_RAISE: Final = frozenset(opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in opmap)
_MADE_UP: Final = 6
"""Bytes of the code that stands for a function of an extension in a traceback."""
_OF_PYTHON: Final = (RecursionError, MemoryError)
"""What any instruction may raise."""


def interrupted(raised: BaseException) -> bool:
    """Whether `raised` did not begin in the code that it came through."""
    traceback = raised.__traceback__
    if traceback is None:
        return False
    handlers = frozenset(_codes_of_handlers())
    while (inner := traceback.tb_next) is not None:
        frame = inner.tb_frame
        if frame.f_code in handlers or _got(frame, traceback.tb_frame):
            return True
        traceback = inner
    return _was_set_by_another_thread(raised, traceback)


def _got(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether the function of `frame` was called with the frame that it interrupted.

    So are signal handlers, and so is a debugger's trace function; no other function is.
    """
    code, values = frame.f_code, frame.f_locals
    many = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
    for name in code.co_varnames[:many]:
        value = values.get(name)
        if value is interrupted or (
            isinstance(value, tuple) and any(one is interrupted for one in value)
        ):
            return True
    return False


def _codes_of_handlers() -> Iterator[CodeType]:
    """Of the handlers that are installed now: one may have forgotten its arguments."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        for part in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - the method
            code = getattr(part, "__code__", None)
            if isinstance(code, CodeType):
                yield code


def _was_set_by_another_thread(raised: BaseException, innermost: TracebackType) -> bool:
    """`PyThreadState_SetAsyncExc`: the exception has no arguments, and no `raise` raised it."""
    if isinstance(raised, _OF_PYTHON):
        return False
    code, place = innermost.tb_frame.f_code.co_code, innermost.tb_lasti
    if len(code) <= _MADE_UP or not 0 <= place < len(code):
        return False
    instruction = code[place]
    if instruction in _RAISE_NOTHING:
        return True
    # After a call of a C function, too; but what that raises itself is Python's own, or an
    # extension's.
    return instruction not in _RAISE and not raised.args and _is_written_in_python(type(raised))


def _is_written_in_python(cls: type) -> bool:
    """Whether neither Python itself nor an extension in another language brings the class."""
    name: str = cls.__module__
    if name == "__main__":
        return True
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
    return path is not None and path.endswith(".py")
