# What the installations of all WebUIs share; for `source`.
set -euo pipefail

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

# checkout_repositories: what A1111's WebUI and those that come of it clone when they prepare their
# environment, which the tests have them skip. The commits are the ones in their
# modules/launch_utils.py.
checkout_repositories() {
	checkout Stability-AI/stablediffusion cf1d67a6fd5ea1aa600c4df58e5b47da45f6bdbf \
		repositories/stable-diffusion-stability-ai
	checkout Stability-AI/generative-models 45c443b316737a4ab6e40413d7794a7f5657c19f \
		repositories/generative-models
	checkout crowsonkb/k-diffusion ab527a9a6d347f364e3d185ba6d714e22d80cb3c repositories/k-diffusion
	checkout salesforce/BLIP 48211a1594f1321b00f14c9f7a5b4813144b2fb9 repositories/BLIP
	checkout AUTOMATIC1111/stable-diffusion-webui-assets 6f7db241d2f8ba7457bac5ca9753331f0c266917 \
		repositories/stable-diffusion-webui-assets
}

# pip ARGUMENT...: that of venv/ in the current folder, which is made if missing.
pip() {
	[ -x venv/bin/python ] || "$PYTHON" -m venv venv
	venv/bin/python -m pip "$@"
}

# install_libraries NAME...: the WebUI's requirements and these, into venv/ of the current folder.
# REQUIREMENTS names the file of the former.
#
# A torch of today wants a newer setuptools than the WebUIs pin. Asked for both at once, pip quietly
# takes another torch, with 5 GB of CUDA. So both lines go, torch is pinned by a constraint, and the
# WebUI's setuptools comes last: it is what CLIP's setup.py needs, too.
install_libraries() {
	wanted=$(mktemp) constraints=$(mktemp)
	trap 'rm -f "$wanted" "$constraints"' EXIT
	grep -vE '^((torch|setuptools)([^a-z_-]|$)|https:)' \
		"${REQUIREMENTS:-requirements_versions.txt}" >"$wanted"
	printf 'torch==%s\ntorchvision==%s\n' "$TORCH" "$TORCHVISION" >"$constraints"
	pip install --requirement "$wanted" --constraint "$constraints" torch torchvision "$@"
	pip install "setuptools==$SETUPTOOLS"
	pip install --no-build-isolation --no-deps "git+$CLIP"
}
