"""The manifest is read strictly: what is misspelt, missing or contradicts itself is refused."""

import hashlib
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ManifestError
from model_artifacts.manifest import Band, ModelManifest, parse_manifest, read_manifest

TEXT = (Path(str(files("model_artifacts.prevent_cvd"))) / "manifest.toml").read_text(encoding="utf-8")
Change = Callable[[dict[str, Any]], object]


def _parse(change: Change) -> ModelManifest:
    content = tomllib.loads(TEXT)
    change(content)
    return parse_manifest("\n".join(_lines(content, "")))


def _lines(table: dict[str, Any], prefix: str) -> list[str]:
    plain = [f"{_value(key)} = {_value(value)}" for key, value in table.items() if not _is_table(value)]
    nested = []
    for key, value in table.items():
        name = f"{prefix}{_value(key)}"
        if isinstance(value, dict):
            nested += [f"[{name}]", *_lines(value, f"{name}.")]
        elif _is_table(value):
            for item in value:
                nested += [f"[[{name}]]", *_lines(item, f"{name}.")]
    return plain + nested


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _value(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sets(content: dict[str, Any], starts: tuple[float, ...] = (6, 9), **changes: Any) -> None:
    """Conformal bounds by a graph input of one number, with what is wrong in them."""
    spans = [{"at_least": start, "event_bound": start / 100, "no_event_bound": 0.5} for start in starts]
    conformal = {
        "coverage": 0.9,
        "event_bound": 0.2,
        "no_event_bound": 0.6,
        "source": "x",
        "by": "hour",
        "spans": spans,
    }
    content["artifact"]["inputs"].append({"name": "hour", "shape": [1]})
    content["uncertainty"]["conformal"] = conformal | changes


def test_manifest_of_a_released_model_is_read_whole() -> None:
    manifest = _parse(lambda content: None)
    assert manifest == parse_manifest(TEXT)
    assert manifest.id == "prevent_cvd"
    assert manifest.explained_index == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(colour="red"),
        lambda m: m["artifact"].update(completeness_tolerence=1.0),
        lambda m: m["bands"][0].update(atleast=0.1),
        lambda m: m["outputs"][0].update(units="%"),
        lambda m: m["population"]["criteria"][0].update(minimum=1),
        lambda m: m["abstain"].update(needed=["age"]),
        lambda m: m["intended_use"].update(audience="everyone"),
        lambda m: m["uncertainty"].update(interval=0.9),
        lambda m: m["source"].update(doi="x"),
        lambda m: m.update(monitoring={"psi_alert": 0.1}),
    ],
)
def test_manifest_with_an_unknown_member_is_refused(change: Change) -> None:
    with pytest.raises(ManifestError, match="unknown field"):
        _parse(change)


@pytest.mark.parametrize(
    "member",
    ["schema", "id", "version", "artifact", "outputs", "bands", "population", "abstain", "explanation", "uncertainty"],
)
def test_manifest_without_a_required_member_is_refused(member: str) -> None:
    with pytest.raises(ManifestError, match=member):
        _parse(lambda content: content.pop(member))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(id="prevent-cvd"), "id must be a Python identifier"),
        (lambda m: m.update(hooks=[]), "hooks must name at least one hook"),
        (lambda m: m["outputs"][0].update(unit="mg/wk"), "outputs must be all probabilities or all quantities"),
        (lambda m: m["outputs"][0].update(at_most=2.0), "a probability's at_most must be 1"),
        (
            lambda m: [item.update(unit="mg/wk") for item in m["outputs"]],
            "the explanation's unit must be the outputs' unit",
        ),
        (lambda m: m["outputs"][1].update(name="total_cvd_10y"), "output names must differ"),
        (lambda m: m["artifact"].update(explained="death"), "explained output 'death' is not an output"),
        (lambda m: m["bands"][0].update(at_least=0.01), "the first band must begin at 0"),
        (lambda m: m["bands"].reverse(), "bands must ascend"),
        (lambda m: m["bands"][2].update(at_least=0.075), "bands must ascend"),
        (lambda m: m["bands"][2].update(at_least=1.0), "band bounds must be probabilities below 1"),
        (lambda m: m["files"].pop("known_cvd.toml"), "a criterion's code list must be among the files"),
        (lambda m: m["population"]["criteria"][-1].pop("codes"), "a criterion's code list must be among the files"),
        (lambda m: _sets(m, by=""), "conformal spans need the input they go by"),
        (lambda m: _sets(m, spans=[]), "conformal spans need the input they go by"),
        (lambda m: _sets(m, by="age"), "conformal bounds go by 'age', no input of one number"),
        (lambda m: _sets(m, starts=(9, 6)), "conformal spans must ascend"),
        (lambda m: m["artifact"].update(opset=16), "opset 16 is not in 17–23"),
        (lambda m: m["artifact"].update(opset=24), "opset 24 is not in 17–23"),
        (lambda m: m["artifact"].update(sha256="0" * 63), "sha256 must be 64 hexadecimal digits"),
        (lambda m: m["artifact"].update(sha256="z" * 64), "sha256 must be 64 hexadecimal digits"),
        (
            lambda m: m["artifact"].update(completeness_tolerance=-1.0),
            "completeness_tolerance must be above 0 and below 1",
        ),
        (lambda m: m["artifact"].update(members=0), "members must be at least 1"),
        (lambda m: m["files"].update({"../codes.toml": "0" * 64}), "files must lie in the model's own folder"),
        (lambda m: m["artifact"].update(file="../model.onnx"), "files must lie in the model's own folder"),
        (lambda m: m.update(monitoring={"psi_alarm": 0.0}), "monitoring.psi_alarm must be above 0"),
        (lambda m: m.update(monitoring={"novelty_alarm": 1.5}), "monitoring's shares must be above 0 and at most 1"),
        (lambda m: m.update(monitoring={"calibration_slope": [1.1, 1.2]}), "monitoring's ranges must hold 1"),
        (lambda m: m.update(monitoring={"minimum_decisions": 20}), "monitoring.minimum_decisions must be at least 50"),
        (lambda m: m.update(monitoring={"minimum_events": 1}), "monitoring.minimum_events must be at least 10"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(change: Change, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        _parse(change)


def test_manifest_without_outputs_or_bands_is_refused() -> None:
    with pytest.raises(ManifestError, match="outputs must not be empty"):
        parse_manifest(_without_tables(TEXT, "outputs"))
    with pytest.raises(ManifestError, match="the first band must begin at 0"):
        parse_manifest(_without_tables(TEXT, "bands"))


def _without_tables(text: str, name: str) -> str:
    content = tomllib.loads(text)
    del content[name]
    return f"{name} = []\n" + "\n".join(_lines(content, ""))


def test_manifest_names_every_problem_at_once() -> None:
    with pytest.raises(ManifestError, match=r"hooks.*; .*opset") as refused:
        _parse(lambda m: (m.update(hooks=[]), m["artifact"].update(opset=3)))
    assert refused.value.model_id == "prevent_cvd"


@pytest.mark.parametrize("text", ["", "schema = ", 'schema = "bedside-model/2"', "\x00"])
def test_manifest_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        parse_manifest(text)


def test_manifest_digest_is_of_the_bytes_read(tmp_path: Path) -> None:
    data = TEXT.replace("\n", "\n\n").encode()
    (tmp_path / "manifest.toml").write_bytes(data)
    manifest, digest = read_manifest(tmp_path)
    assert digest == hashlib.sha256(data).hexdigest()
    assert manifest == parse_manifest(TEXT)


def test_manifest_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.toml .*No such file"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("probability", "code"),
    [
        (0.0, "below-7.5"),
        (0.07449, "below-7.5"),
        (0.0745, "below-7.5"),  # as a float a hair below 7.45 %
        (0.07451, "from-7.5"),
        (0.19949, "from-7.5"),
        (0.1996, "from-20"),
        (1.0, "from-20"),
    ],
)
def test_manifest_band_is_that_of_the_figure_shown(probability: float, code: str) -> None:
    """The card shows 7.4 % for 0.07449 and 7.5 % for 0.07451; nobody may read "7.5 %" beside "below 7.5 %"."""
    assert parse_manifest(TEXT).band(probability).code == code


@given(st.floats(0, 1))
def test_manifest_has_one_band_for_every_probability(probability: float) -> None:
    assert isinstance(parse_manifest(TEXT).band(probability), Band)


def test_manifest_conformal_bounds_are_those_of_the_span_reached() -> None:
    conformal = _parse(_sets).uncertainty.conformal
    assert conformal is not None
    bounds = [conformal.bounds_at(hour) for hour in (5.9, 6.0, 8.9, 9.0, 100.0, None)]
    assert bounds == [(0.2, 0.6), (0.06, 0.5), (0.06, 0.5), (0.09, 0.5), (0.09, 0.5), (0.2, 0.6)]
