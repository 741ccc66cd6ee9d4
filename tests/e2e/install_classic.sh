#!/usr/bin/env bash
# Installs the Forge Classic that the end-to-end tests start, for the CPU:
#
#     tests/e2e/install_classic.sh FOLDER
#     LAYERDIFFUSE_CLASSIC_DIR=FOLDER make e2e
#
# PYTHON names another interpreter than python3.11. Takes 3 GB. Run it again to finish an
# installation that was interrupted.
set -euo pipefail

source "$(dirname "$0")/install_webui.sh"
FOLDER=${1:?"Usage: $0 FOLDER"}

# Its own repository has this commit in the branch `classic` alone.
checkout Haoming02/sd-webui-forge-classic c813972d818ce213948b28d0cc981a12823e878e "$FOLDER"
cd "$FOLDER"

# Its launcher installs gradio before the requirements, whose Pillow is newer than gradio allows:
# asked for both at once, pip finds no answer.
pip install gradio==3.43.2
REQUIREMENTS=requirements.txt install_libraries ftfy joblib regex wheel

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
