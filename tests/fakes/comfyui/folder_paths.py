"""Folders of models, by kind."""

from __future__ import annotations

models_dir = "/nowhere/models"
output_directory = "/nowhere/output"
folder_names_and_paths: dict[str, list[str]] = {}


def add_model_folder_path(
    folder_name: str, full_folder_path: str, is_default: bool = False
) -> None:
    found = folder_names_and_paths.setdefault(folder_name, [])
    if full_folder_path not in found:
        found.append(full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return folder_names_and_paths[folder_name][:]


def get_output_directory() -> str:
    return output_directory


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    return output_dir, filename_prefix, 1, "", filename_prefix
