#!/usr/bin/env bash
# Installs the WebUI of AUTOMATIC1111 that the end-to-end tests start, for the CPU:
#
#     tests/e2e/install_a1111.sh FOLDER
#     LAYERDIFFUSE_A1111_DIR=FOLDER make e2e
#
# PYTHON names another interpreter than python3.11. Takes 3 GB. Run it again to finish an
# installation that was interrupted.
set -euo pipefail

source "$(dirname "$0")/install_webui.sh"
FOLDER=${1:?"Usage: $0 FOLDER"}

# What the WebUI itself clones when it prepares its environment, which the tests have it skip. The
# commits of repositories/ are the ones in its modules/launch_utils.py.
checkout AUTOMATIC1111/stable-diffusion-webui 82a973c04367123ae98bd9abdf80d9eda9b910e2 "$FOLDER"
cd "$FOLDER"
checkout Stability-AI/stablediffusion cf1d67a6fd5ea1aa600c4df58e5b47da45f6bdbf \
	repositories/stable-diffusion-stability-ai
checkout Stability-AI/generative-models 45c443b316737a4ab6e40413d7794a7f5657c19f \
	repositories/generative-models
checkout crowsonkb/k-diffusion ab527a9a6d347f364e3d185ba6d714e22d80cb3c repositories/k-diffusion
checkout salesforce/BLIP 48211a1594f1321b00f14c9f7a5b4813144b2fb9 repositories/BLIP
checkout AUTOMATIC1111/stable-diffusion-webui-assets 6f7db241d2f8ba7457bac5ca9753331f0c266917 \
	repositories/stable-diffusion-webui-assets

install_libraries ftfy regex wheel

# The tests keep the WebUI offline, and SD1.5's tokenizer comes from the hub.
export HF_HOME=$PWD/huggingface
venv/bin/python -c "
from huggingface_hub import snapshot_download
snapshot_download('openai/clip-vit-large-patch14', allow_patterns=[
    'vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json', 'config.json'])"

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
