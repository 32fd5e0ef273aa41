"""The report in a real browser: nothing breaks, nothing is fetched, nothing is wider than a phone."""

from __future__ import annotations

import json
import shutil

import pytest
from example_runs import CHECK, make_run

from hf_finetune.report import write_report

pytestmark = pytest.mark.drawing

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium on this machine", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

KINDS = ("text", "image", "many", "several", "numbers")
WIDTHS = (390, 1200)

# The contrast of every text with what it stands on (WCAG 2.2, 1.4.3), lowest first; colours behind it are laid upon each other.
CONTRASTS = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = e => e ? over(parse(getComputedStyle(e).backgroundColor), back(e.parentElement)) : [255, 255, 255];
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e instanceof SVGElement, behind = back(svg ? e.closest('figure') : e);
    const a = light(over(parse(svg ? style.fill : style.color), behind)), b = light(behind);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.trim().slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 3);
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    paths = {}
    for kind in KINDS:
        folder = make_run(root / kind, kind)
        (folder / "check.json").write_text(json.dumps(CHECK))
        paths[kind] = write_report(folder)
    return paths


@pytest.fixture
def opened(browser, reports):
    """Opens a report; what the browser complains of, and what it asks for, is listed."""
    pages = []

    def open_page(kind, width=390, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages.append(page)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(reports[kind].as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_is_read_and_asks_for_nothing(opened, kind, scheme):
    page = opened(kind, scheme=scheme)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.complaints == []
    assert [url for url in page.asked if not url.startswith("data:")] == [page.url]
    lowest = page.evaluate(CONTRASTS)
    assert lowest[0][0] >= 4.5, lowest


def test_the_scheme_of_the_browser_is_that_of_the_page(opened):
    back = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    light, dark = opened("text", scheme="light"), opened("text", scheme="dark")
    assert (light.evaluate(back), dark.evaluate(back)) == ("rgb(255, 255, 255)", "rgb(21, 24, 28)")
    assert light.evaluate(ink) != dark.evaluate(ink)
    assert dark.evaluate(ink) == dark.evaluate("getComputedStyle(document.body).color")


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_loads_and_has_words(opened, kind):
    page = opened(kind, width=1200)
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt])")
    assert len(images) == {"image": 11}.get(kind, 0)
    assert all(width > 0 and alt for width, alt in images)
    figures = page.get_by_role("img").all()
    assert len(figures) >= 5
    assert all(f.get_attribute("aria-label") or f.get_attribute("alt") for f in figures)
    drawn = page.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)")
    assert min(drawn) > 50


def test_tables_scroll_in_boxes_of_their_own(opened):
    page = opened("many")
    boxes = page.evaluate("[...document.querySelectorAll('table')].every(t => t.closest('.scroll'))")
    assert boxes
    tall = page.evaluate("[...document.querySelectorAll('.tall')].map(b => b.scrollHeight > b.clientHeight)")
    assert tall == [True, True]  # by label, and rows of each class


def test_names_from_the_data_are_text(opened):
    page = opened("several")
    assert page.evaluate("document.scripts.length") == 0
    assert page.get_by_text("<script>alert('x')</script>").count() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_prints_on_white_and_whole(opened, kind):
    page = opened(kind, width=1200, scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") >= 3
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('.tall, .quote')].filter(b => getComputedStyle(b).overflowY !== 'visible').length"
    assert page.evaluate(hidden) == 0
