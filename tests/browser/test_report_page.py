"""The report in a real browser: on a phone, in the dark, on paper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import report_samples as samples

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
PAGES = ("troubled", "quiet", "hostile", "heavy", "proved")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs rights that containers rarely give; the pages are ours.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {
        "troubled": samples.troubled(),
        "quiet": samples.report_of(samples.quiet_events(), samples.troubled_extras()),
        "hostile": samples.hostile(),
        "heavy": samples.heavy(),
        "proved": samples.proved(),
    }
    folder = tmp_path_factory.mktemp("reports")
    for name, report in made.items():
        (folder / f"{name}.html").write_text(report.html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def show(browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> tuple[Any, list[str]]:
    """Open a file; return the page and everything that the browser complained about or asked the network for."""
    page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url in (file.as_uri(), "data:,") else said.append(request.url))
    page.goto(file.as_uri())
    return page, said


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_scrolls_sideways_and_nothing_errs(browser: Any, files: dict[str, Path], name: str, width: int):
    """Every fold open, the page fits its screen; the console stays empty and nothing is loaded."""
    page, said = show(browser, files[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []


def test_the_verdict_is_on_the_first_screen_of_a_phone(browser: Any, files: dict[str, Path]):
    """Verdict and the first thing to do are seen without scrolling."""
    page, _ = show(browser, files["troubled"], 390)
    assert page.locator("h1").bounding_box()["y"] < 60
    box = page.locator(".item .hint").first.bounding_box()
    assert box["y"] + box["height"] < 844


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
                          return [...canvas.getImageData(0, 0, 1, 1).data] };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] / 255 + below[i] * (1 - top[3] / 255));
  const ground = element => { const own = rgb(getComputedStyle(element).backgroundColor);
    return own[3] === 255 || !element.parentElement ? own.slice(0, 3) : over(own, ground(element.parentElement)) };
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
                       return .2126 * r + .7152 * g + .0722 * b };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    if (![...element.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (!element.getClientRects().length) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${element.className} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["troubled", "proved"])
def test_every_text_has_contrast(browser: Any, files: dict[str, Path], name: str, scheme: str):
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 between text and ground, by day and by night."""
    page, _ = show(browser, files[name], scheme=scheme)
    assert page.evaluate(CONTRAST) == []


def test_paper_shows_what_is_folded(browser: Any, files: dict[str, Path]):
    """Printed, every fold is open: paper cannot be clicked."""
    page, _ = show(browser, files["quiet"])
    page.emulate_media(media="print")
    assert page.locator("details .part").count()
    # The browser lays the page out anew some frames after the medium has changed.
    page.wait_for_function(
        "[...document.querySelectorAll('details .part')].every(e => e.checkVisibility({contentVisibilityAuto: true}))",
        timeout=10_000,
    )
    assert len(page.pdf(prefer_css_page_size=True)) > 10_000


def test_links_open_the_fold_they_lead_into(browser: Any, files: dict[str, Path]):
    """A system in good order is folded; its line in the overview opens it."""
    page, _ = show(browser, files["quiet"])
    assert page.locator("details.sys[open]").count() == 0
    page.locator(".glance a").first.click()
    assert page.locator("details.sys[open]").count() == 1
