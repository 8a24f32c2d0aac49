"""What promtool says about a page."""

import subprocess

_KNOWN = 'otel_coach_price_list_age_days use base unit "seconds" instead of "days"'
"""People read this one, in days, and no rate is taken of it."""


def complaints(promtool, text):
    """The lines of `promtool check metrics` about a page, without the one that is known."""
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    lines = (checked.stdout + checked.stderr).splitlines() if checked.returncode else []
    return [line for line in lines if line.strip() != _KNOWN]
