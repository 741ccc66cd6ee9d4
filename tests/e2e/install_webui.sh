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

pip() { venv/bin/python -m pip "$@"; }

# install_libraries NAME...: the WebUI's requirements and these, into venv/ of the current folder.
#
# A torch of today wants a newer setuptools than the WebUIs pin. Asked for both at once, pip quietly
# takes another torch, with 5 GB of CUDA. So both lines go, torch is pinned by a constraint, and the
# WebUI's setuptools comes last: it is what CLIP's setup.py needs, too.
install_libraries() {
	[ -x venv/bin/python ] || "$PYTHON" -m venv venv
	wanted=$(mktemp) constraints=$(mktemp)
	trap 'rm -f "$wanted" "$constraints"' EXIT
	grep -vE '^(torch|setuptools)([^a-z_-]|$)' requirements_versions.txt >"$wanted"
	printf 'torch==%s\ntorchvision==%s\n' "$TORCH" "$TORCHVISION" >"$constraints"
	pip install --requirement "$wanted" --constraint "$constraints" torch torchvision "$@"
	pip install "setuptools==$SETUPTOOLS"
	pip install --no-build-isolation --no-deps "git+$CLIP"
}
