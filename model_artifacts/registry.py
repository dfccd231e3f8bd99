"""Which models there are: the built-in ones and those of installed packages.

To add a built-in model: copy a model folder, edit its manifest, inputs and train, run train, and add its name to `BUILT_IN`.
To add one from a package of your own: `bedside model new` writes one; its entry point in the group "bedside.models" has the
import path of the model's package as its value. Nothing else has to change; `tests/test_every_model.py` runs over these.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from model_artifacts.errors import ManifestError

BUILT_IN = ("prevent_cvd", "icu_mortality", "warfarin_dose", "readmission_30d")
ENTRY_POINT_GROUP = "bedside.models"


def model_packages() -> dict[str, str]:
    """Model id to the import path of its package, built-in models first.

    Raises:
        ManifestError: two packages claim one id.
    """
    packages = {name: f"model_artifacts.{name}" for name in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in packages:
            raise ManifestError(f"model {point.name}: claimed by {packages[point.name]} and by {point.value}")
        packages[point.name] = point.value
    return packages
