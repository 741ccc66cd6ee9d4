"""The WebUI's own components."""

import gradio


class InputAccordion(gradio.Component):
    pass
