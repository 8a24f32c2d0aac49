"""The page in a real browser as people use it: scrolled, selected, by keyboard, aloud, dark."""

import re

import pytest

from tests.support.chromium import browser, chromium
from tests.support.page_port import served
from tests.support.waiting import eventually
from tests.support.whole_pages import Changing, Pages

pytestmark = pytest.mark.skipif(browser() is None, reason="needs Chromium: apt install chromium")


@pytest.fixture
def page():
    return Changing(seed=9)


@pytest.fixture
def port(page):
    with served(page) as found:
        yield found


@pytest.fixture(scope="module")
def new_tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def tab(new_tab, port):
    with new_tab() as found:
        found.open(f"http://127.0.0.1:{port}/metrics")
        eventually(lambda: found.shown["tables"])
        yield found


def wait_for_updates(page):
    """Waits until a page that was asked for from now on has been shown, or could have been."""
    begin = page.count
    eventually(lambda: page.count >= begin + 2)


def test_what_is_scrolled_stays_where_it_is_and_no_element_is_replaced(tab, page):
    tab.resize(320, 400)
    tab.js("document.querySelector('details').open = true")
    eventually(lambda: tab.js("document.querySelector('pre').textContent.length") > 1000)
    places = """(() => {
        const wide = document.querySelectorAll(".scroll")[1], pre = document.querySelector("pre");
        return [wide.getBoundingClientRect().top, wide.scrollLeft, pre.scrollTop, pre.scrollLeft];
    })()"""
    tab.js("scrollTo(0, 300)")
    tab.js("document.querySelectorAll('.scroll')[1].scrollLeft = 50")
    tab.js("document.querySelector('pre').scrollTo(20, 500)")
    tab.js("window.kept = [...document.querySelectorAll('td, dd, svg, .scroll')]")
    scrolled, figures = tab.js(places), tab.shown["tables"]
    assert scrolled[1:] == [50, 500, 20]
    wait_for_updates(page)
    assert tab.shown["tables"] != figures
    assert tab.js(places) == scrolled
    assert tab.js("kept.every(one => one.isConnected)")


def test_what_is_selected_stays_until_it_is_not(tab, page):
    cells = "document.querySelectorAll('td')"
    tab.js(f"getSelection().setBaseAndExtent({cells}[0], 0, {cells}[5], 1)")
    selected, figures = tab.js("getSelection().toString()"), tab.shown["tables"]
    assert figures["AI requests"]
    assert len(selected.split()) >= 5
    wait_for_updates(page)
    assert tab.js("getSelection().toString()") == selected
    assert tab.shown["tables"] == figures
    note = "getComputedStyle(document.querySelector('#window'), '::after').content"
    assert "wait while text is selected" in tab.js(note)
    tab.js("getSelection().removeAllRanges()")
    eventually(lambda: tab.shown["tables"] != figures)
    assert tab.js(note) == "none"


def test_a_screen_reader_is_told_only_what_changes(new_tab, page):
    told = "window.told"
    with new_tab() as tab:
        with served(page) as port:
            tab.open(f"http://127.0.0.1:{port}/metrics")
            eventually(lambda: tab.shown["tables"] and tab.shown["state"] == "")
            tab.js("""
                window.told = [];
                for (const one of document.querySelectorAll("[role=status], [aria-live]"))
                    new MutationObserver(() => told.push(one.textContent)).observe(
                        one, {childList: true, characterData: true, subtree: true})
            """)
            figures = tab.shown["tables"]
            wait_for_updates(page)
            assert tab.shown["tables"] != figures
            assert tab.js(told) == []
        eventually(lambda: tab.js(told))
        (said,) = tab.js(told)
    assert said.startswith("the service cannot be reached: is it running?")


def test_everything_is_reached_and_scrolled_by_keyboard(tab):
    tab.resize(320, 800)
    name = """(one => one === document.body ? "" : one.getAttribute("aria-label")
        || one.textContent.trim())(document.activeElement)"""
    reached = []
    for _ in range(20):
        tab.press("Tab")
        reached.append(tab.js(name))
        if reached[-1] == "Models":
            width = "document.activeElement.style.outline, getComputedStyle(document.activeElement)"
            assert tab.js(f"({width}).outlineStyle") != "none"
            tab.press("ArrowRight")
            eventually(lambda: tab.js("document.activeElement.scrollLeft") > 0)
        if not reached[-1]:
            break
    assert [one for one in reached if one] == [
        *("Pause", "Plain page"),
        *("AI requests", "Models", "Embeddings", "Tools", "HTTP requests", "Dependencies"),
        *("Not measured, or lost", "The plain page, as Prometheus reads it"),
    ]
    # Not every browser takes what scrolls for a place of the keyboard by itself.
    for name, value in (("role", "region"), ("tabindex", "0")):
        found = f"[...document.querySelectorAll('.scroll')].map(one => one.getAttribute('{name}'))"
        assert set(tab.js(found)) == {value}


def test_pause_is_pressed_by_keyboard(tab):
    pause = "document.querySelector('#pause')"
    tab.js("""
        window.asked = 0;
        const own = fetch;
        window.fetch = (...all) => { asked++; return own(...all); };
    """)
    tab.js(f"{pause}.focus()")
    tab.press(" ")
    assert tab.js(f"[{pause}.ariaPressed, {pause}.textContent]") == ["true", "Go on"]
    before = tab.js("asked")
    assert tab.js("read().then(() => asked)") == before
    tab.press(" ")
    assert tab.js(f"[{pause}.ariaPressed, {pause}.textContent]") == ["false", "Pause"]
    assert tab.js("read().then(() => asked)") > before


COLOURS = """
[...document.querySelectorAll("td, .bad, th, dt, dd, caption, #window, a, summary")].map(
    one => [getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor])
"""


def luminance(colour):
    """That of WCAG 2.2, between 0 and 1."""
    parts = [int(one) / 255 for one in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(tab, scheme):
    tab.prefer(scheme)
    pairs = {tuple(one) for one in tab.js(COLOURS)}
    (background,) = {below for _, below in pairs}
    assert (luminance(background) < 0.1) == (scheme == "dark")
    assert len(pairs) >= 3  # figures, bad figures, and what explains them
    for text, below in pairs:
        dark, light = sorted((luminance(text), luminance(below)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text


def test_a_row_moves_comes_and_goes_with_its_figures(new_tab):
    name = "http_server_request_duration_seconds"

    def text(**counts):
        lines = [f'{name}_count{{endpoint="/{one}"}} {count}' for one, count in counts.items()]
        return "\n".join([f"# TYPE {name} histogram", *lines, ""])

    pages = Pages(text(a=7, b=3, c=1), text(a=8, b=9, d=2))
    rows = "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].slice(0, 2)"
    names_and_counts = f"{rows}.map(cell => cell.textContent))"
    with served(pages) as port, new_tab() as tab:
        tab.open(f"http://127.0.0.1:{port}/metrics")
        now = [["/b", "9"], ["/a", "8"], ["/d", "2"]]
        eventually(lambda: tab.js(names_and_counts) == now)
