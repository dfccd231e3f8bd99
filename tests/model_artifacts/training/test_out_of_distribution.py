import numpy as np
import pytest

from model_artifacts.training.out_of_distribution import (
    Subject,
    as_child,
    exchange_patients,
    exchange_variables,
    out_of_distribution,
    read,
    wilson,
)


def made(n=600):
    """Two related quantities, a series of three hours, and what the novelty needs besides."""
    random = np.random.default_rng(4)
    weight = random.normal(80, 12, n)
    height = 170 + 0.4 * (weight - 80) + random.normal(0, 4, n)
    pulse = random.normal(80, 10, (n, 3))
    pulse[random.random((n, 3)) < 0.3] = np.nan
    height[:50] = np.nan
    return {"weight": weight, "height": height, "pulse": pulse, "counts": np.ones((n, 3))}


def distance(rows):
    """Largest standardised distance of any one value."""
    columns = [(rows["weight"] - 80) / 12, (rows["height"] - 170) / 6]
    columns += list((rows["pulse"].T - 80) / 10)
    return np.nanmax(np.abs(np.stack([*columns, np.zeros(len(columns[0]))])), axis=0)


def subject(rows=None, threshold=4.0):
    ranges = {"weight": (20.0, 400.0), "height": (100.0, 230.0), "pulse": (10.0, 300.0)}
    return Subject(made() if rows is None else rows, ranges, distance, threshold)


CHILD = {"weight": ("weight", 1.0), "pulse": ("heart_rate", 1.0)}


def test_out_of_distribution_rates_are_those_of_ranges_and_novelty_together():
    section = out_of_distribution(subject(), CHILD)
    by_test = {row["test"]: row for row in section["detected"]}
    tenfold = by_test["a value tenfold (weight)"]  # 800 kg is out of range for nearly all, and then missing
    assert tenfold["n"] == 600
    assert tenfold["set_aside"]["estimate"] > 0.99
    assert tenfold["novelty"]["estimate"] < 0.01
    assert tenfold["rate"]["estimate"] >= tenfold["set_aside"]["estimate"]
    tenth = by_test["a value a tenth (pulse)"]  # 8 beats a minute are out of range, 12 are in it and novel
    assert tenth["set_aside"]["estimate"] > 0.9
    assert tenth["rate"]["estimate"] == pytest.approx(1, abs=0.01)
    assert by_test["a value tenfold (height)"]["n"] == 550  # those who have one
    child = by_test["children's vitals (1 year)"]
    assert child["novelty"]["estimate"] > 0.6  # 10 kg are set aside, 123 beats a minute are 4 deviations off
    assert section["held_out_flagged"]["estimate"] < 0.01
    assert {"children's vitals (5 years)", "children's vitals (10 years)"} <= set(by_test)


def test_out_of_distribution_of_a_blind_novelty_finds_what_the_ranges_find_and_no_more():
    blind = Subject(made(), {"weight": (20.0, 400.0)}, lambda rows: np.zeros(600), 1.0)
    by_test = {row["test"]: row for row in out_of_distribution(blind, {})["detected"]}
    assert by_test["a value tenfold (weight)"]["rate"] == by_test["a value tenfold (weight)"]["set_aside"]
    assert not any("children" in test for test in by_test)
    without = Subject(made(), {"weight": (20.0, 400.0)}, None, 0.0)
    row = out_of_distribution(without, {})["detected"][0]
    assert row["rate"] == row["set_aside"] == by_test["a value tenfold (weight)"]["rate"]
    assert "novelty" not in row


def test_out_of_distribution_a_slip_of_a_models_own_unit_is_one_more_test():
    section = out_of_distribution(subject(), {}, slips={"height": ("inches for centimetres", 1 / 2.54)})
    (slip,) = [row for row in section["detected"] if row["test"] == "inches for centimetres (height)"]
    assert slip["n"] == 550
    assert slip["set_aside"]["estimate"] > 0.99


def test_out_of_distribution_what_was_out_of_range_before_is_no_detection():
    rows = made()
    rows["weight"] = np.full(600, 1.0)  # below the range already, and at tenfold still
    by_test = {row["test"]: row for row in out_of_distribution(subject(rows), {})["detected"]}
    assert by_test["a value tenfold (weight)"]["set_aside"]["estimate"] == 0


def test_out_of_distribution_exchanging_variables_keeps_each_rows_values_and_what_is_missing_altogether():
    rows = {name: values for name, values in made().items() if name in ("weight", "height")}
    changed = exchange_variables(rows, ["weight", "height"], np.random.default_rng(0))
    for row in (0, 100, 599):
        before = {rows["weight"][row], rows["height"][row]} - {np.nan}
        assert {changed["weight"][row], changed["height"][row]} == before or row == 0
    assert np.isnan(changed["height"][:50]).all()  # nothing to trade places with
    assert (changed["weight"][50:] != rows["weight"][50:]).mean() == pytest.approx(0.5, abs=0.1)


def test_out_of_distribution_exchanging_patients_keeps_each_inputs_values():
    rows = made()
    changed = exchange_patients(rows, ["weight"], np.random.default_rng(0))
    assert np.array_equal(np.sort(changed["weight"]), np.sort(rows["weight"]))
    assert not np.array_equal(changed["weight"], rows["weight"])
    assert changed["pulse"] is rows["pulse"]


def test_out_of_distribution_a_child_has_the_published_mean_and_the_series_own_ups_and_downs():
    rows = made()
    child = as_child(rows, CHILD, 5, np.random.default_rng(0))
    assert child["weight"].mean() == pytest.approx(18.4, abs=0.4)
    assert np.nanmean(child["pulse"]) == pytest.approx(98, abs=2)
    assert np.array_equal(np.isnan(child["pulse"]), np.isnan(rows["pulse"]))
    whole = ~np.isnan(rows["pulse"]).any(axis=1)
    assert np.ptp(child["pulse"][whole] / rows["pulse"][whole], axis=1).max() < 1e-9
    assert rows["weight"].mean() > 70  # the rows given stay as they were


def test_out_of_distribution_reading_takes_away_only_what_is_outside():
    kept, aside = read(subject(), {**made(), "weight": np.full(600, 500.0)})
    assert aside.all()
    assert np.isnan(kept["weight"]).all()
    assert np.array_equal(kept["pulse"], made()["pulse"], equal_nan=True)


def test_out_of_distribution_wilson_interval_is_the_textbooks():
    # Newcombe, Stat Med 1998;17:857, table I: 15 of 148
    assert wilson(15, 148) == pytest.approx({"estimate": 0.1014, "low": 0.0624, "high": 0.1605}, abs=5e-5)
