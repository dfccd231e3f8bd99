import numpy as np
import pytest

from model_artifacts.warfarin_dose.report import bias, mean_absolute_error, within_20_percent

TRUTH = np.array([10.0, 20.0, 40.0])


def test_report_metrics_are_what_they_are_called() -> None:
    doses = np.array([12.0, 26.0, 40.0])
    assert mean_absolute_error(doses, TRUTH) == pytest.approx(8 / 3)
    assert within_20_percent(doses, TRUTH) == pytest.approx(2 / 3)
    assert bias(doses, TRUTH) == pytest.approx(8 / 3)
