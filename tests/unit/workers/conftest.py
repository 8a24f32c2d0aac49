"""Windows has none of what workers share: tests/integration/test_platforms.py."""

import os

if os.name == "nt":
    collect_ignore_glob = ["test_*.py"]
