"""Tells whether an exception interrupted otel-coach's code from outside.

A signal handler runs wherever the main thread happens to be, and what it raises (Celery's soft time
limit, pytest-timeout, an application's own timeout) comes out of the code that it interrupted. So
does an exception that one thread sets in another (the time limits of dramatiq and RQ). Neither is a
fault of the interrupted code. Only exceptions that otel-coach has caught are examined, so it does
not matter that this takes microseconds.
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

_CHECK_OPCODES: Final = frozenset(
    opmap[name] for name in ("JUMP_BACKWARD", "RESUME") if name in opmap
)
"""Instructions at which Python checks for signals and for exceptions that other threads set. They
raise nothing themselves."""
_RAISE_OPCODES: Final = frozenset(
    opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in opmap
)
_MAX_PLACEHOLDER_CODE: Final = 6
"""Maximum bytes of the placeholder code that a traceback has for a function of an extension."""
_RAISED_ANYWHERE: Final = (RecursionError, MemoryError)
"""Exceptions that any instruction may raise."""


def interrupted(raised: BaseException) -> bool:
    """Whether `raised` came from outside the code in its traceback: a signal or another thread."""
    traceback = raised.__traceback__
    if traceback is None:
        return False
    handlers = frozenset(_codes_of_handlers())
    while (inner := traceback.tb_next) is not None:
        frame = inner.tb_frame
        if frame.f_code in handlers or _received(frame, traceback.tb_frame):
            return True
        traceback = inner
    return _was_set_by_another_thread(raised, traceback)


def _received(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether the function of `frame` was called with the frame `interrupted` as an argument.

    Signal handlers and a debugger's trace function are. No function of otel-coach may be.
    """
    code, values = frame.f_code, frame.f_locals
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
    for name in code.co_varnames[:arguments]:
        value = values.get(name)
        if value is interrupted or (
            isinstance(value, tuple) and any(item is interrupted for item in value)
        ):
            return True
    return False


def _codes_of_handlers() -> Iterator[CodeType]:
    """Yields the code of the installed signal handlers.

    A handler may have deleted its arguments, so that `_received` cannot recognise it.
    """
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        for part in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - the method
            code = getattr(part, "__code__", None)
            if isinstance(code, CodeType):
                yield code


def _was_set_by_another_thread(raised: BaseException, innermost: TracebackType) -> bool:
    """Whether another thread set `raised` by `PyThreadState_SetAsyncExc`.

    Such an exception appears at an instruction that raises nothing itself; or no `raise` statement
    raised it, it has no arguments, and its class is written in Python.
    """
    if isinstance(raised, _RAISED_ANYWHERE):
        return False
    code, offset = innermost.tb_frame.f_code.co_code, innermost.tb_lasti
    if len(code) <= _MAX_PLACEHOLDER_CODE or not 0 <= offset < len(code):
        return False
    opcode = code[offset]
    if opcode in _CHECK_OPCODES:
        return True
    # Python also checks after it has called a C function. The exceptions that a C function raises
    # itself are of classes that come with Python or with an extension.
    return opcode not in _RAISE_OPCODES and not raised.args and _is_written_in_python(type(raised))


def _is_written_in_python(cls: type) -> bool:
    """Whether `cls` comes neither from Python itself nor from an extension in another language."""
    name: str = cls.__module__
    if name == "__main__":
        return True
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
    return path is not None and path.endswith(".py")
