"""What the tab img2img has of its own: images, masks and maps."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator
from webui_page import WebuiPage


class Img2ImgTab:
    """The tab img2img of an open page.

    Attributes:
        web: The page.
    """

    def __init__(self, web: WebuiPage) -> None:
        """Opens the tab."""
        self.web = web
        web.open_tab("img2img")

    def open_mode(self, name: str) -> None:
        """Opens one of the tabs above img2img's image, such as "Inpaint"."""
        self.web.open_inner_tab("mode_img2img", name)

    def give_picture(self, name: str, path: Path) -> None:
        """Puts an image file on one of the tab's canvases, such as "img2img_image"."""
        file = self.web.page.locator(f"#{name} input[type=file]")
        file.set_input_files(path)
        self.web.canvas_image(name).wait_for(state="attached")
        self.web.settle()

    def give_file(self, name: str, path: Path) -> None:
        """Puts an image file into one of the tab's other slots, such as "img_inpaint_base"."""
        slot = self.web.page.locator(f"#{name}")
        slot.locator("input[type=file]").set_input_files(path)
        slot.locator("img").first.wait_for()
        self.web.settle()

    def draw(self, name: str, points: list[tuple[float, float]]) -> None:
        """Draws on a canvas.

        Args:
            name: The canvas.
            points: Where the pen goes, across and down, in shares of the image.
        """
        if self.web.gradio() > 3:  # Forge Neo's pen is as wide as a small image.
            self.web.page.locator(f"#{name} input[id^=scribbleWidth]").fill("2")
        drawn_on = "img.forge-image" if self.web.gradio() > 3 else "canvas[key=interface]"
        box = self.web.page.locator(f"#{name} {drawn_on}").bounding_box()
        assert box is not None
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.web.page.mouse.move(*places[0])
        self.web.settle()  # Gradio 3's pen has its width only after it has come over the canvas.
        self.web.page.mouse.down()
        for place in places[1:]:
            self.web.page.mouse.move(*place, steps=8)
        self.web.page.mouse.up()
        self.web.settle()

    def open_map(self) -> None:
        """Opens the panel of Differential Diffusion, which switches it on."""
        self._map("enabled").locator(".label-wrap").first.click()
        self._map("source").wait_for(state="visible")
        self.web.settle()

    def choose_map(self, source: str, path: Path | None = None) -> None:
        """Chooses where the change map comes from, and the image."""
        self._map("source").get_by_label(source, exact=True).check()
        self.web.settle()
        if path is not None:
            self._map("picture").locator("input[type=file]").first.set_input_files(path)
            self._map("picture").locator("img").first.wait_for()
            self.web.settle()

    def _map(self, name: str) -> Locator:
        return self.web.page.locator(f"#script_differential_diffusion_{name}")
