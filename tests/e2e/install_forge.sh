#!/usr/bin/env bash
# Installs the WebUI Forge that the end-to-end tests start, for the CPU:
#
#     tests/e2e/install_forge.sh FOLDER
#     LAYERDIFFUSE_FORGE_DIR=FOLDER make e2e
#
# PYTHON names another interpreter than python3.11. Takes 2.5 GB. Run it again to finish an
# installation that was interrupted.
set -euo pipefail

source "$(dirname "$0")/install_webui.sh"
FOLDER=${1:?"Usage: $0 FOLDER"}

# What Forge itself clones when it prepares its environment, which the tests have it skip. The
# commits of repositories/ are the ones in its modules/launch_utils.py.
checkout lllyasviel/stable-diffusion-webui-forge dfdcbab685e57677014f05a3309b48cc87383167 "$FOLDER"
cd "$FOLDER"
checkout lllyasviel/huggingface_guess 84826248b49bb7ca754c73293299c4d4e23a548d \
	repositories/huggingface_guess
checkout salesforce/BLIP 48211a1594f1321b00f14c9f7a5b4813144b2fb9 repositories/BLIP
checkout AUTOMATIC1111/stable-diffusion-webui-assets 6f7db241d2f8ba7457bac5ca9753331f0c266917 \
	repositories/stable-diffusion-webui-assets

# The built-in soft inpainting imports joblib, which no requirement of Forge names.
install_libraries ftfy joblib regex wheel

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
