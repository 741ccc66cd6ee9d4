#!/usr/bin/env bash
# Installs the reForge that the end-to-end tests start, for the CPU:
#
#     tests/e2e/install_reforge.sh FOLDER
#     LAYERDIFFUSE_REFORGE_DIR=FOLDER make e2e
#
# PYTHON names another interpreter than python3.11. Takes 3 GB. Run it again to finish an
# installation that was interrupted.
set -euo pipefail

source "$(dirname "$0")/install_webui.sh"
FOLDER=${1:?"Usage: $0 FOLDER"}

checkout Panchovix/stable-diffusion-webui-reForge 3b56b268ad9158ee8b30900973b6ccda4ec22241 "$FOLDER"
cd "$FOLDER"
checkout_repositories

# Its own build of pydantic, which the requirements give by address, is for newer Pythons.
install_libraries ftfy joblib pydantic==1.10.15 regex wheel

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
