"""Bedside's own checks, run on this model: `pip install -e '.[test]'`, then `pytest`."""

import pytest

from model_artifacts.checks import CHECKS, open_subject
from model_artifacts.training.graph_checks import GRAPH_CHECKS

SUBJECT = open_subject("long_stay", "bedside_long_stay")


@pytest.mark.parametrize("name", sorted(CHECKS | GRAPH_CHECKS))
def test_long_stay_is_what_bedside_wants_of_a_model(name: str) -> None:
    (CHECKS | GRAPH_CHECKS)[name](SUBJECT)
