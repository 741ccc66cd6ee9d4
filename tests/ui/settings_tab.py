"""The WebUI's settings in the browser: their pages, options, and the button that applies them."""

from __future__ import annotations

from playwright.sync_api import Locator
from webui_page import WebuiPage


class SettingsTab:
    """The tab of the settings of an open page.

    Attributes:
        web: The page.
    """

    def __init__(self, web: WebuiPage, section: str) -> None:
        """Opens a page of the settings by its name."""
        self.web = web
        web.open_tab("settings")
        web.open_inner_tab("settings", section)

    def option(self, name: str) -> Locator:
        """Returns an option on the open page by its name."""
        return self.web.page.locator(f"#setting_{name}")

    def value(self, name: str) -> object:
        """Returns an option's value as the page has it."""
        return self.web.page.evaluate("name => opts[name]", name)

    def apply(self) -> str:
        """Presses the button that takes the settings over; returns what is said of it."""
        self.web.page.locator("#settings_submit").click()
        self.web.settle()
        return self.web.page.locator("#settings_result").first.inner_text()
