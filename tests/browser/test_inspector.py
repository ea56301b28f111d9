"""The report of the shipped model in a real browser: passes, diff, search, lineage, graph, cost, code, both schemes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.page import Page

# Contrast of text that is read, after WCAG 2.2, 1.4.3.
LEAST_CONTRAST = 4.5
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const channels = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const linear = (c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return channels(getComputedStyle(document.body).backgroundColor);
};
return [...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility()).map((element) => {
  const [a, b] = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
  return [(a + .05) / (b + .05), element.className, element.textContent.slice(0, 40)];
});
"""


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Page]:
    page = Page(chromium, report)
    yield page
    page.colour_scheme("light")
    assert page.complaints() == []


def test_the_report_is_small_and_gets_ready(page: Page, report: Path) -> None:
    print(f"ready after {page.milliseconds_to_ready} ms")
    assert report.stat().st_size < 10_000_000


def test_keys_walk_the_passes_that_changed_something(page: Page) -> None:
    names = [element.text for element in page.all(".pass-name")]
    changed = [element.text for element in page.all(".pass:not(.unchanged) .pass-name")][1:]
    assert names[0] == "input" and "ternarize" not in changed
    walked = [page.selected_pass]
    for _ in changed[1:]:
        page.press("j")
        walked.append(page.selected_pass)
    assert walked == changed
    page.press("h")
    assert "ternarize" not in [element.text for element in page.all(".pass-name")]


def test_shift_walks_every_pass_and_one_without_change_says_so(page: Page) -> None:
    while page.selected_pass != "ternarize":
        page.press("J")
    assert "changed nothing" in page.one(".badge").text
    assert page.all(".compare.single")


def test_a_diff_marks_words_and_leaves_out_what_did_not_change(page: Page) -> None:
    page.choose_pass("choose-encodings")
    added = [mark.text for mark in page.all(".right.changed mark.word")]
    assert any("encoding" in words for words in added)
    assert page.all(".left-out")
    rows = len(page.all(".pair"))
    page.press("u")
    page.wait(lambda: not page.all(".left-out"))
    assert rows > 0


def test_a_function_folds(page: Page) -> None:
    page.choose_pass("fuse-projections")
    page.press("f")
    folded = page.wait(lambda: page.all(".folded"))
    assert "lines" in folded[0].text
    page.press("f")
    page.wait(lambda: not page.all(".folded"))


def test_search_counts_marks_and_moves(page: Page) -> None:
    page.choose_pass("fuse-norm-quantize")
    page.search("ternary.scan")
    page.wait(lambda: page.all("mark.found"))
    first = page.one(".hits").text
    assert first.startswith("1 of ")
    page.press(Keys.ENTER)
    assert page.wait(lambda: page.one(".hits").text.startswith("2 of "))
    assert page.wait(lambda: page.all(".pass .change.found")), "every pass says how often it holds the text"
    page.press(Keys.ESCAPE)
    page.wait(lambda: not page.all("mark.found"))


def test_pointing_at_a_value_lights_its_definition_and_its_uses(page: Page) -> None:
    page.choose_pass("fuse-projections")
    uses = [element for element in page.all(".right [data-v]:not(.defined)") if element.is_displayed()]
    value = next(
        element
        for element in uses
        if page.all(f'.right [data-v="{element.get_attribute("data-v")}"].defined')
        and 100 < element.rect["y"] < 700
    )
    page.point_at(value)
    number = value.get_attribute("data-v")
    defined = page.one(f'.right [data-v="{number}"].defined')
    page.wait(lambda: defined.value_of_css_property("outline-style") == "solid")
    assert value.value_of_css_property("background-color") != "rgba(0, 0, 0, 0)"


def test_an_op_is_followed_to_its_line_of_python_and_to_what_it_became(page: Page) -> None:
    page.choose_pass("raise-bit-linear")
    page.search("ternary.accumulate")
    page.press(Keys.TAB)
    page.click(".current-hit .right code")
    source = page.one(".trace-source")
    assert "hgrn_bit.py:" in source.text
    assert page.one(".source-line.here").text.strip()
    history = {
        row.find_element(By.CSS_SELECTOR, ".trace-stage-name").text: row for row in page.all(".trace-stage")
    }
    assert "ternary.project" in history["fuse-projections"].text
    history["fuse-projections"].find_element(By.CSS_SELECTOR, ".trace-op").click()
    assert page.selected_pass == "fuse-projections"
    assert page.wait(lambda: page.all(".cell.focused"))
    page.press(Keys.ESCAPE)
    assert not page.one(".trace").is_displayed()


def test_the_graph_zooms_and_shows_what_is_fused(page: Page) -> None:
    page.choose_pass("fuse-elementwise")
    page.press("2")
    canvas = page.one(".graph-canvas")
    boxes = page.wait(lambda: page.all(".box.fused"))
    scale = "return new DOMMatrix(getComputedStyle(document.querySelector('.graph-canvas > g')).transform).a"
    before = page.run(scale)
    assert before > 0
    page.press("+", "+")
    assert page.run(scale) > before
    page.run(
        "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: 300, clientX: 700, clientY: 400, bubbles: true}))",
        canvas,
    )
    page.press("0")
    page.run("arguments[0].dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))", boxes[0])
    assert page.wait(lambda: page.all(".box.fused.open .box")), "a fused op opens to what is in it"
    page.run("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", page.one(".box.fused"))
    assert page.one(".trace").is_displayed()


def test_the_memory_floor_follows_the_bandwidth(page: Page) -> None:
    page.press("3")
    row = page.one(".pass-costs tbody tr:last-child")
    assert "i2 weights" in page.one(".pass-costs thead").text
    before = row.find_element(By.CSS_SELECTOR, "td:last-child").text
    field = page.one("#bandwidth")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("40")
    page.wait(lambda: page.one(".pass-costs tbody tr:last-child td:last-child").text != before)
    assert page.all(".op-costs tbody tr")


def test_the_emitted_code_of_an_op_is_lit(page: Page) -> None:
    page.press("4")
    page.search("ternary.project")
    page.press(Keys.TAB)
    irs = ".code-rows:first-child .cell:has(mark.found)"

    def click_project() -> bool:
        project = next((row for row in page.all(irs) if "ternary.project" in row.text), None)
        if project:
            project.find_element(By.CSS_SELECTOR, "code").click()
        return project is not None

    page.wait(click_project)
    page.wait(lambda: any("project_" in lit.text for lit in page.all(".code-rows:last-child .cell.focused")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["1", "2", "3", "4"])
def test_text_is_legible_and_nothing_overflows(page: Page, scheme: str, view: str) -> None:
    page.colour_scheme(scheme)
    page.choose_pass("fuse-projections")
    page.press(view)
    read = (
        ".pass-name, .pass-time, .change, .quiet, .toggle, td:not(.zero), th, h2, h3, label, .cell code span"
    )
    poor = [found for found in page.run(CONTRAST, read) if found[0] < LEAST_CONTRAST]
    assert poor == []
    width = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_a_cell_of_the_notebook_shows_the_report(chromium: Any, tmp_path: Path) -> None:
    notebook = json.loads((Path(__file__).parents[2] / "docs/inspect.ipynb").read_text(encoding="utf-8"))
    cell = next(
        output for output in notebook["cells"][-1]["outputs"] if "text/html" in output.get("data", {})
    )
    page = tmp_path / "cell.html"
    page.write_text(
        "<!doctype html><meta charset='utf-8'>" + "".join(cell["data"]["text/html"]), encoding="utf-8"
    )
    chromium.get(page.as_uri())
    chromium.switch_to.frame(chromium.find_element(By.TAG_NAME, "iframe"))
    names = WebDriverWait(chromium, 30).until(
        lambda browser: browser.find_elements(By.CSS_SELECTOR, ".pass-name")
    )
    assert [name.text for name in names] == ["input", "raised", "fused", "scheduled"]
    chromium.switch_to.default_content()
