"""Lists the licences of all that otel-coach brings along, its extras included.

Exit code 1 if one of them is not known to be permissive. `make licences` runs it, on what this
environment has installed; requirements of other systems are not in it.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import metadata
from typing import Final

from verification.installs.sbom import closure

EXTRAS: Final = frozenset({"cli", "otlp", "otlp-grpc"})

PERMISSIVE: Final = {
    "Apache-2.0": "otel-coach's own: keep the notices; it grants patents too",
    "BSD-2-Clause": "keep the notice",
    "BSD-3-Clause": "keep the notice, and do not advertise with the authors' names",
    "MIT": "keep the notice",
    "PSF-2.0": "Python's own: keep the notice",
}
"""Licences that any service can live with, by SPDX identifier, and what they ask for."""

ACCEPTED: Final = {
    ("certifi", "MPL-2.0"): "only changed files of its own must be published, and none is changed; "
    "a list of certificates that comes with the extra otlp",
}
"""Packages whose licence is not permissive, and why they may come along nevertheless."""

_SPDX: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What older metadata calls licences."""


def licence_of(name: str) -> str:
    """An SPDX expression if the metadata has one, else what it says instead."""
    about = metadata(name)
    kinds = ("License-Expression", "License", "Classifier")
    expressions, texts, classifiers = (list[str](about.get_all(kind) or ()) for kind in kinds)
    # Some have nothing there, some the whole text of the licence.
    spoken = [one for one in texts if one and "\n" not in one]
    spoken += [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    return next(iter([*expressions, *(_SPDX.get(one, one) for one in spoken), "none stated"]))


def is_fine(name: str, licence: str) -> bool:
    """Whether each licence in the expression is permissive, or accepted for that package."""
    words = set(re.findall(r"[^\s()]+", licence)) - {"AND", "OR"}
    return words <= PERMISSIVE.keys() or (name, licence) in ACCEPTED


def main() -> int:
    """Exit code 1 if somebody has to look at a licence."""
    without_extras = closure()
    unknown: list[str] = []
    for name in sorted(closure(extras=EXTRAS)):
        licence = licence_of(name)
        fine = is_fine(name, licence)
        unknown += [] if fine else [name]
        notes = [
            *([] if name in without_extras else ["by an extra"]),
            *([] if fine else ["NOT KNOWN TO BE PERMISSIVE"]),
        ]
        row = f"{name:40} {metadata(name)['Version']:12} {licence:28} {', '.join(notes)}"
        sys.stdout.write(row.rstrip() + "\n")
    if unknown:
        sys.stdout.write(f"read these licences, then add them in {__file__} with a reason, or do ")
        sys.stdout.write(f"without: {', '.join(unknown)}\n")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
