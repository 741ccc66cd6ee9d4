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

checkout AUTOMATIC1111/stable-diffusion-webui 82a973c04367123ae98bd9abdf80d9eda9b910e2 "$FOLDER"
cd "$FOLDER"
checkout_repositories

install_libraries ftfy regex wheel

# The tests keep the WebUI offline, and SD1.5's tokenizer comes from the hub.
export HF_HOME=$PWD/huggingface
venv/bin/python -c "
from huggingface_hub import snapshot_download
snapshot_download('openai/clip-vit-large-patch14', allow_patterns=[
    'vocab.json', 'merges.txt', 'tokenizer_config.json', 'special_tokens_map.json', 'config.json'])"

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
