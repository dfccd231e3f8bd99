import json

import numpy as np
import pytest

from model_artifacts.training.report_file import rounded, write_metrics


def test_report_file_has_six_significant_digits_and_plain_numbers(tmp_path):
    write_metrics(
        tmp_path, {"model": {"auroc": np.float64(0.123456789), "n": 12345678, "ok": True}, "curve": [(1 / 3, 2)]}
    )
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "model": {"auroc": 0.123457, "n": 12345678, "ok": True},
        "curve": [[0.333333, 2]],
    }


def test_report_file_names_the_place_of_a_number_that_json_cannot_say():
    with pytest.raises(ValueError, match=r"metrics subgroups\[1\]\.auroc: expected a finite number, got nan"):
        rounded({"subgroups": [{"auroc": 0.5}, {"auroc": float("nan")}]})
