"""A scrape changes no setting of the host's interpreter."""

import gc
import sys

from tests.support.interpreter import settings


def test_a_scrape_changes_neither_the_collector_nor_the_switch_interval(measured, host_settings):
    gc.disable()
    sys.setswitchinterval(0.02)
    chosen = settings()
    measured.page()
    assert settings() == chosen
    gc.enable()
    seen = []
    gc.callbacks.append(note := lambda *_: seen.append(settings()))
    try:
        measured.page()
        gc.collect()
    finally:
        gc.callbacks.remove(note)
    assert set(seen) == {(chosen[0], True)}
