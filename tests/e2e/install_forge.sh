#!/usr/bin/env bash
# Installs the WebUI Forge that the end-to-end tests start, for the CPU:
#
#     tests/e2e/install_forge.sh FOLDER
#     LAYERDIFFUSE_FORGE_DIR=FOLDER make e2e
#
# PYTHON names another interpreter than python3.11. Takes 2.5 GB. Run it again to finish an
# installation that was interrupted.
set -euo pipefail

FOLDER=${1:?"Usage: $0 FOLDER"}
PYTHON=${PYTHON:-python3.11}
TORCH=2.13.0 TORCHVISION=0.28.0 SETUPTOOLS=69.5.1
# The build without CUDA is a tenth of the download.
export PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL-https://download.pytorch.org/whl/cpu}
export PIP_DISABLE_PIP_VERSION_CHECK=1

GITHUB=https://github.com
CLIP=$GITHUB/openai/CLIP.git@d50d76daa670286dd6cacf3bcd80b5e4823fc8e1

# checkout REPOSITORY COMMIT FOLDER: that commit alone.
checkout() {
	[ -d "$3/.git" ] || git init --quiet "$3"
	git -C "$3" cat-file -e "$2^{commit}" 2>/dev/null ||
		git -C "$3" fetch --quiet --depth 1 "$GITHUB/$1.git" "$2"
	git -C "$3" checkout --quiet --detach "$2"
	echo "$1 $2"
}

# What Forge itself clones when it prepares its environment, which the tests have it skip. The
# commits of repositories/ are the ones in its modules/launch_utils.py.
checkout lllyasviel/stable-diffusion-webui-forge dfdcbab685e57677014f05a3309b48cc87383167 "$FOLDER"
cd "$FOLDER"
checkout lllyasviel/huggingface_guess 84826248b49bb7ca754c73293299c4d4e23a548d \
	repositories/huggingface_guess
checkout salesforce/BLIP 48211a1594f1321b00f14c9f7a5b4813144b2fb9 repositories/BLIP
checkout AUTOMATIC1111/stable-diffusion-webui-assets 6f7db241d2f8ba7457bac5ca9753331f0c266917 \
	repositories/stable-diffusion-webui-assets

[ -x venv/bin/python ] || "$PYTHON" -m venv venv
pip() { venv/bin/python -m pip "$@"; }

# A torch of today wants a newer setuptools than Forge pins. Asked for both at once, pip quietly
# takes another torch, with 5 GB of CUDA. So both lines go, torch is pinned by a constraint, and
# Forge's setuptools comes last: it is what CLIP's setup.py needs, too. The built-in soft inpainting
# imports joblib, which no requirement of Forge names.
wanted=$(mktemp) constraints=$(mktemp)
trap 'rm -f "$wanted" "$constraints"' EXIT
grep -vE '^(torch|setuptools)([^a-z_-]|$)' requirements_versions.txt >"$wanted"
printf 'torch==%s\ntorchvision==%s\n' "$TORCH" "$TORCHVISION" >"$constraints"
pip install --requirement "$wanted" --constraint "$constraints" torch torchvision \
	ftfy joblib regex wheel
pip install "setuptools==$SETUPTOOLS"
pip install --no-build-isolation --no-deps "git+$CLIP"

venv/bin/python -c "import clip, gradio, torch, torchvision; print('torch', torch.__version__)"
