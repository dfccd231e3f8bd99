"""What the model reads: all of it stands in `features.toml`."""

from pathlib import Path

from model_artifacts.feature_table import read_feature_table

INPUTS = read_feature_table(Path(__file__).with_name("features.toml"))
