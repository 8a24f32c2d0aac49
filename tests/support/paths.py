"""Where things are in this repository."""

from pathlib import Path
from typing import Final

SUPPORT: Final = Path(__file__).parent
TESTS: Final = SUPPORT.parent
ROOT: Final = TESTS.parent
COACHING: Final = ROOT / "examples" / "coaching"
APPS: Final = SUPPORT / "apps"
"""Applications that are started with this folder as their own."""
PEM: Final = SUPPORT / "localhost.pem"
"""A key and a certificate for localhost."""
