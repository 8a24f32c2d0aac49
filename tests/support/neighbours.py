"""Another user of the same machine."""

import os
import stat

import pytest

NEIGHBOUR = 1234
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)
