"""The settings of the interpreter that are the host's."""

import gc
import sys


def settings():
    """The switch interval, and whether the garbage collector is on."""
    return sys.getswitchinterval(), gc.isenabled()
