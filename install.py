"""Installs what the extension needs and the WebUI lacks.

The WebUI's launcher runs this file before it starts, with its own folder on the import path. What
is there already is left as it is, whatever its version: the WebUI chose it. PyTorch and gradio are
always the WebUI's own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable

PACKAGES = {
    "safetensors": "safetensors>=0.4.2",
    "numpy": "numpy>=1.26",
    "cv2": "opencv-python>=4.8",
    "huggingface_hub": "huggingface_hub>=0.26",
    "PIL": "pillow>=9.5",
}
"""What to ask pip for, by the name that the code imports."""


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _run_pip(command: str, description: str) -> None:
    print(f"Installing {description}")
    subprocess.run([sys.executable, "-m", "pip", *command.split()], check=True)


def _installer() -> tuple[Callable[[str], bool], Callable[[str, str], object]]:
    """Returns the launcher's own functions, which know its proxies and mirrors, or plain pip."""
    try:
        import launch

        return launch.is_installed, launch.run_pip
    except (ImportError, AttributeError):
        return _is_installed, _run_pip


def install() -> list[str]:
    """Installs the missing packages and returns those that could not be installed."""
    is_installed, run_pip = _installer()
    failed = []
    for module, requirement in PACKAGES.items():
        if is_installed(module):
            continue
        try:
            run_pip(f"install {requirement}", f"{requirement} for LayerDiffuse")
        except Exception as error:  # The launcher raises RuntimeError, pip CalledProcessError.
            print(f"LayerDiffuse: could not install {requirement}: {error}", file=sys.stderr)
            failed.append(requirement)
    return failed


if __name__ == "__main__":
    left = install()
    if left:
        # Ends normally, or the launcher would bury this line under a traceback.
        names = " ".join(f'"{name}"' for name in left)
        print(f"LayerDiffuse will not work yet. Run: pip install {names}")
