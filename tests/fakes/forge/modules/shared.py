"""Options, state and command line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class OptionInfo:
    """One setting of the settings page."""

    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: Any = None,
        section: tuple[str, str] | None = None,
    ) -> None:
        self.default, self.label, self.section = default, label, section
        self.component, self.component_args = component, component_args
        self.comment_after, self.restrict_api = "", False
        self.onchange: Any = None

    def info(self, text: str) -> OptionInfo:
        self.comment_after += text
        return self


class Options:
    """Settings: a value that the user never set is a default only, and not in `data`."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self.data: dict[str, Any] = {}
        self.data_labels: dict[str, Any] = {k: OptionInfo(v) for k, v in defaults.items()}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def set(self, key: str, value: Any, is_api: bool = False) -> bool:
        """Returns whether an option is set; what it calls then may still refuse."""
        label, before = self.data_labels[key], self.data.get(key)
        if before == value or (is_api and label.restrict_api):
            return False
        self.data[key] = value
        try:
            if label.onchange is not None and not is_api:  # An override calls nothing.
                label.onchange()
        except Exception:
            self.data[key] = before
            return False
        return True

    def get_default(self, name: str) -> Any:
        return self.data_labels[name].default

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__["data"]
        if name not in data and name not in self.data_labels:
            raise AttributeError(name)
        return data[name] if name in data else self.get_default(name)


opts = Options(
    {
        "sd_model_checkpoint": None,
        "samples_format": "png",
        "samples_filename_pattern": "",
        "save_images_add_number": True,
        "save_images_replace_action": "Replace",
        "uni_pc_order": 3,
        "token_merging_ratio": 0.0,
        "stealth_pnginfo_option": "Alpha",
        "enable_pnginfo": True,
        "return_grid": False,
        "img2img_background_color": "#ffffff",
        "overlay_inpaint": True,
        "upscaler_for_img2img": None,
        "outdir_samples": "",
        "outdir_save": "",
        "outdir_txt2img_samples": "",
        "outdir_img2img_samples": "",
        "api_enable_requests": True,
        "api_forbid_local_requests": True,
        "api_useragent": "",
    }
)
state = SimpleNamespace(
    interrupted=False, skipped=False, stopping_generation=False, textinfo=None, job_count=-1
)
cmd_opts = SimpleNamespace(
    layerdiffuse_models_dir=None,
    layerdiffuse_offline=True,
    api_auth=None,
    gradio_auth=None,
    gradio_auth_path=None,
    hide_ui_dir_config=False,
    gradio_allowed_path=[],
)
hide_dirs = {"visible": True}
