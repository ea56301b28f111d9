"""A report in a browser, in the words of someone who reads it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 30.0


class Page:
    def __init__(self, browser: Any, report: Path) -> None:
        self.browser = browser
        browser.get(report.as_uri())
        self.milliseconds_to_ready = int(
            self.wait(lambda: self.run("return document.documentElement.dataset.ready"))
        )

    def wait(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives, once it gives something.

        Rows are drawn anew while a reader looks at them, so an element that is gone counts as nothing yet.
        """
        end = monotonic() + PATIENCE
        while monotonic() < end:
            with suppress(StaleElementReferenceException):
                if found := condition():
                    return found
            sleep(0.05)
        raise AssertionError(f"waited in vain; the console says {self.complaints()}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.wait(lambda: self.all(selector))[0]

    def settle(self) -> None:
        """Until what an event led to is drawn: scrolling draws other rows in the frame after it."""
        frames = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        self.browser.execute_async_script(frames)

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()
        self.settle()

    def click(self, selector: str) -> None:
        """The first such element, found again where it was drawn anew before the click."""

        def clicked() -> bool:
            elements = self.all(selector)
            if elements:
                elements[0].click()
            return bool(elements)

        self.wait(clicked)
        self.settle()

    def point_at(self, element: WebElement) -> None:
        ActionChains(self.browser).move_to_element(element).perform()

    def search(self, text: str) -> None:
        """Types the text, and waits for the first match; the report searches when typing pauses."""
        self.press("/")
        self.press(text)
        self.wait(lambda: self.all("mark.found"))
        self.settle()

    @property
    def selected_pass(self) -> str:
        return self.one(".pass.selected .pass-name").text

    def choose_pass(self, name: str) -> None:
        entry = next(
            entry
            for entry in self.all(".pass")
            if entry.find_element(By.CSS_SELECTOR, ".pass-name").text == name
        )
        entry.click()
        self.settle()

    def complaints(self) -> list[str]:
        """What the browser's console has said since it was last asked."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def colour_scheme(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
