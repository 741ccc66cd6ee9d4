"""The WebUI's page as a user meets it: tabs, our panel, the gallery and what stands below it."""

from __future__ import annotations

import io
import re
import time
import urllib.request
from pathlib import Path

import numpy as np
from client import Client
from PIL import Image
from playwright.sync_api import Locator, Page
from watched_page import LONGEST, WatchedPage

OFFERED = "ul.options li"  # What an open list offers.


class WebuiPage(WatchedPage):
    """The page of one tab of the browser."""

    def __init__(self, page: Page, url: str) -> None:
        """Watches a fresh page; `load` opens the WebUI in it."""
        super().__init__(page)
        self.url, self.tab = url, "txt2img"

    def load(self) -> WebuiPage:
        """Opens the WebUI and waits until it can be used."""
        self.page.set_default_timeout(LONGEST * 1000)
        self.forget()
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_selector("#txt2img_generate")
        self.page.wait_for_selector("#script_txt2img_layerdiffuse_enabled-visible-checkbox")
        self.settle()
        return self

    def gradio(self) -> int:
        """Returns which version of gradio the page is made with: 3 or 4."""
        return int(self.page.evaluate("() => gradio_config.version").split(".")[0])

    # Tabs

    def open_tab(self, tab: str) -> None:
        """Opens "txt2img", "img2img", "pnginfo" or another tab, by its id."""
        place = self.page.locator(f"#tab_{tab}").evaluate(
            "e => [...e.parentElement.children].filter(c => c.id.startsWith('tab_')).indexOf(e)"
        )
        self.page.locator("#tabs > .tab-nav > button").nth(place).click()
        self.page.locator(f"#tab_{tab}").wait_for(state="visible")
        if tab in ("txt2img", "img2img"):
            self.tab = tab
        self.settle()

    def open_inner_tab(self, place: str, name: str) -> None:
        """Opens one of the tabs that stand in a part of the page, by the part's id."""
        tabs = self.page.locator(f"#{place} > .tab-nav > button")
        tabs.filter(has_text=re.compile(rf"^\s*{re.escape(name)}\s*$")).first.click()
        self.settle()

    def set_number(self, name: str, value: float) -> None:
        """Sets a number of the tab's own, such as "width", "steps" or "batch_size"."""
        field = self.page.locator(f"#{self.tab}_{name} input[type=number]").first
        field.fill(str(value))
        field.press("Tab")

    def small_job(self, side: int = 128, steps: int = 2) -> None:
        """Makes the tab's job a quick one."""
        for name, value in (("width", side), ("height", side), ("steps", steps)):
            self.set_number(name, value)
        self.set_prompt("a glass ball")

    def set_prompt(self, text: str) -> None:
        """Replaces the tab's prompt."""
        self.page.locator(f"#{self.tab}_prompt textarea").first.fill(text)

    def prompt(self) -> str:
        """Returns the tab's prompt."""
        return self.page.locator(f"#{self.tab}_prompt textarea").first.input_value()

    def choose_checkpoint(self, name: str) -> None:
        """Chooses a checkpoint; it is loaded by the next job."""
        named = self.page.locator("#setting_sd_model_checkpoint input")
        forges = self.page.locator(".model_selection input")
        (named if named.count() else forges).first.click()
        self.page.locator(OFFERED, has_text=name).first.click()
        self.settle()

    # Our panel

    def component(self, name: str) -> Locator:
        """Returns a component of the panel by its field's name.

        Gradio 3 gives the id of some HTML to what is around it and to itself.
        """
        return self.page.locator(f"#script_{self.tab}_layerdiffuse_{name}").first

    def enabled(self) -> bool:
        """Whether the panel's tick box is set."""
        return self.component("enabled-visible-checkbox").is_checked()

    def open_panel(self) -> None:
        """Opens the panel, which switches it on."""
        if not self.enabled():
            self.component("enabled").locator(".label-wrap").first.click()
            self.component("method").wait_for(state="visible")
            self.settle()

    def method(self) -> str:
        """Returns the chosen method as it is shown."""
        return self.component("method").locator("input").first.input_value()

    def choose_method(self, label: str) -> None:
        """Chooses a method by typing its label."""
        self._choose(self.component("method"), label)

    def visible_inputs(self) -> list[str]:
        """Returns the names of the fields that are shown, in the page's order."""
        ids = self.component("enabled").evaluate(
            """(panel, prefix) => [...panel.querySelectorAll(`[id^="${prefix}"]`)]
                .filter(e => e.offsetParent !== null).map(e => e.id.slice(prefix.length))""",
            f"script_{self.tab}_layerdiffuse_",
        )
        return [name for name in ids if not name.startswith("enabled")]

    def number(self, name: str) -> float:
        """Returns a slider's value."""
        return float(self.component(name).locator("input[type=number]").first.input_value())

    def set_slider(self, name: str, value: float) -> None:
        """Sets a slider of the panel."""
        field = self.component(name).locator("input[type=number]").first
        field.fill(str(value))
        field.press("Tab")

    def text(self, name: str) -> str:
        """Returns a text field's value."""
        return self.component(name).locator("textarea, input").first.input_value()

    def set_text(self, name: str, text: str) -> None:
        """Sets a text field of the panel."""
        self.component(name).locator("textarea, input").first.fill(text)

    def radio(self, name: str) -> str:
        """Returns the chosen one of several, or an empty text."""
        chosen = self.component(name).locator("label:has(input:checked)")
        return chosen.inner_text().strip() if chosen.count() else ""

    def choose_radio(self, name: str, value: str) -> None:
        """Chooses one of several."""
        self.component(name).get_by_label(value, exact=True).check()

    def ticked(self, name: str) -> bool:
        """Whether a tick box is set."""
        return self.component(name).locator("input[type=checkbox]").first.is_checked()

    def tick(self, name: str, on: bool = True) -> None:
        """Sets a tick box."""
        self.component(name).locator("input[type=checkbox]").first.set_checked(on)
        self.settle()

    def upload(self, name: str, path: Path) -> None:
        """Puts an image file into a slot, such as "fg_image"."""
        self.component(name).locator("input[type=file]").first.set_input_files(path)
        self.component(name).locator("img").first.wait_for()
        self.settle()

    def slot(self, name: str) -> np.ndarray | None:
        """Returns the pixels that a slot shows, `h w 3|4` uint8, or None while it is empty."""
        image = self.component(name).locator("img")
        return self._picture(image.first) if image.count() else None

    def canvas_image(self, name: str) -> Locator:
        """Returns the image on one of the WebUI's own canvases, such as "img2img_image"."""
        ours = "img.forge-image[src^=data]" if self.gradio() > 3 else "[data-testid=image] img"
        return self.page.locator(f"#{name} {ours}")

    # Jobs

    def generate(self, timeout: float = 600.0) -> None:
        """Runs the tab's job and waits for its result or error."""
        self.page.locator(f"#{self.tab}_generate").first.click()
        self.wait_for_job(timeout)

    def wait_for_job(self, timeout: float = 600.0) -> None:
        """Waits until the server has nothing to do and the page shows it."""
        client, deadline = Client(self.url), time.monotonic() + timeout
        self.page.wait_for_timeout(500)  # The click reaches the server.
        while client.progress()["state"]["job_count"] or self._waits():
            assert time.monotonic() < deadline, "the job did not end"
            self.page.wait_for_timeout(500)
        self.settle()

    def _waits(self) -> bool:
        """Whether the page still shows the button that interrupts."""
        return self.page.locator(f"#{self.tab}_interrupt").first.is_visible()

    def gallery(self) -> list[np.ndarray]:
        """Returns the images of the tab's gallery, `h w 3|4` uint8."""
        thumbnails = self.page.locator(f"#{self.tab}_gallery button.thumbnail-item img")
        places = [image.get_attribute("src") or "" for image in thumbnails.all()]
        return [self._read(place) for place in dict.fromkeys(places)]

    def choose_picture(self, index: int) -> None:
        """Chooses an image of the tab's gallery."""
        self.page.locator(f"#{self.tab}_gallery .thumbnail-small").nth(index).click()
        self.settle()

    # Below the gallery

    def below(self, name: str) -> Locator:
        """Returns our part below the gallery of that name, such as "to_fg", "view" or "told"."""
        return self.page.locator(f"#layerdiffuse_{name}_{self.tab}").first

    def press(self, name: str) -> str:
        """Presses one of our buttons there; returns what is said below them."""
        self.below(name).click()
        self.settle()
        return self.below("told").inner_text() if self.below("told").is_visible() else ""

    def infotext(self) -> str:
        """Returns the generation parameters below the gallery."""
        name = "html_info_x_extras" if self.tab == "extras" else f"html_info_{self.tab}"
        return self.page.locator(f"#{name}").first.inner_text()

    def notes(self) -> str:
        """Returns the notes and errors below the gallery."""
        return self.page.locator(f"#html_log_{self.tab}").first.inner_text()

    def toasts(self) -> list[str]:
        """Returns the notices that pop up over the page now."""
        return [toast.inner_text() for toast in self.page.locator(".toast-body").all()]

    # Scripts

    def choose_script(self, title: str) -> None:
        """Chooses a script, such as the plot, in the list below the tab's own fields."""
        self._choose(self.page.locator(f"#{self.tab}_script_container #script_list"), title)

    def plot_axis(self, axis: str, kind: str, values: str = "") -> None:
        """Sets the axis "x", "y" or "z" of the plot, and any values, written with commas."""
        prefix = f"#script_{self.tab}_xyz_plot_{axis}"
        self._choose(self.page.locator(f"{prefix}_type"), kind)
        if values:  # Those to choose from are no text.
            self.page.locator(f"{prefix}_values textarea").first.fill(values)

    def tick_plot(self, name: str, on: bool = True) -> None:
        """Sets a tick box of the plot, such as "include_lone_images"."""
        box = self.page.locator(f"#script_{self.tab}_xyz_plot_{name} input[type=checkbox]")
        box.first.set_checked(on)

    def _choose(self, dropdown: Locator, label: str) -> None:
        box = dropdown.locator("input").first
        box.click()
        box.fill(label)
        box.press("Enter")
        assert box.input_value() == label
        self.settle()

    # Infotext

    def paste(self, infotext: str) -> None:
        """Puts an infotext into the prompt and presses the arrow that reads it."""
        self.set_prompt(infotext)
        self.page.wait_for_timeout(1000)  # Then the page counts the tokens of what was written,
        self.settle()  # and gradio may lose one of two events that meet.
        self.page.locator(f"#{self.tab}_tools #paste").click()
        self.settle()

    def read_png_info(self, path: Path) -> str:
        """Opens an image file in the tab PNG Info; returns what it shows."""
        self.open_tab("pnginfo")
        self.page.locator("#pnginfo_image input[type=file]").first.set_input_files(path)
        self.page.locator("#pnginfo_image img").first.wait_for()
        self.settle()
        return self.page.locator("#tab_pnginfo").inner_text()

    def send_to(self, tab: str) -> None:
        """Sends what PNG Info shows to "txt2img" or "img2img"."""
        self.page.locator(f"#tab_pnginfo #{tab}_tab").first.click()
        self.tab = tab
        self.page.locator(f"#tab_{tab}").wait_for(state="visible")
        self.settle()

    # Images

    def _picture(self, image: Locator) -> np.ndarray:
        return self._read(image.get_attribute("src") or "")

    def _read(self, src: str) -> np.ndarray:
        whole = "://" in src or src.startswith("data:")
        address = src if whole else f"{self.url}/{src.lstrip('/')}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())))
