"""The released graph in half precision and with eight-bit weights: size, speed and what it does to the answers.

Owns the section `variants` of `metrics.json`: figures alone. Nothing here is ever released; the variants live in a temporary
folder, and the section says in words why the released one is what it is. float16 keeps float32 at the graph's borders; int8 is
onnxruntime's dynamic quantisation of the weights of matrix products.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from model_artifacts.training.latency import open_session, timed

Rows = Mapping[str, npt.NDArray[Any]]
Answers = npt.NDArray[np.float64]

RUNS = 300


def variants(
    graph: Path,
    rows: Rows,
    score: tuple[str, Callable[[Answers], float]],
    *,
    tolerance: float,
    explained: int = 0,
    runs: int = RUNS,
) -> dict[str, Any]:
    """The sections `variants` (a row each) and `variants_released` (which one and why).

    `rows` are the graph's inputs of n real rows; `score` is a metric's name and the metric of the explained output of all of
    them; `tolerance` is how far an answer may move, in its own unit, before the variant is another model.
    """
    name, metric = score
    with tempfile.TemporaryDirectory() as folder:
        paths = {"float32": graph} | {kind: Path(folder) / f"{kind}.onnx" for kind in _MAKERS}
        table: list[dict[str, Any]] = []
        reference: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
        for kind, path in paths.items():
            failed = _make(kind, graph, path)
            if failed is not None:
                table.append({"variant": kind, "not available": failed})
                continue
            session = open_session(path.read_bytes())
            answers, attributions = _answers(session, rows)
            reference = (answers, attributions) if reference is None else reference
            table.append(
                {
                    "variant": kind,
                    "bytes": path.stat().st_size,
                    "p50_ms": timed(session, rows, runs)["p50_ms"],
                    name: metric(answers[:, explained].astype(np.float64)),
                    "largest_difference": _difference(answers, reference[0]),
                    "largest_difference_of_an_attribution": _difference(attributions, reference[1]),
                }
            )
    return {"variants": table, "variants_released": {"variant": "float32", "why": _why(table, tolerance)}}


def _why(table: list[dict[str, Any]], tolerance: float) -> str:
    whole, others = table[0], table[1:]
    words = []
    for row in others:
        if "bytes" not in row:
            words.append(f"{row['variant']} can't be made of this graph")
            continue
        smaller, pace = row["bytes"] / whole["bytes"], row["p50_ms"] / whole["p50_ms"]
        moved = row["largest_difference"]
        verdict = "more than" if moved > tolerance else "within"
        words.append(
            f"{row['variant']} has {100 * smaller:.0f} % of the bytes and takes {100 * pace:.0f} % of the time, and moves an "
            f"answer by up to {moved:.2g}, {verdict} the {tolerance:g} allowed"
        )
    return "float32, the graph whose parity with the trained network was shown, is released: " + "; ".join(words)


def _make(kind: str, graph: Path, path: Path) -> str | None:
    """Writes the variant and checks that it opens; if not, the kind of error."""
    if kind in _MAKERS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _MAKERS[kind](graph, path)
            open_session(path.read_bytes())
        except Exception as exc:  # noqa: BLE001 - converters raise what they like; a variant that isn't is a result
            return type(exc).__name__
    return None


def _half(graph: Path, path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(graph), keep_io_types=True), path)


def _eight_bits(graph: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_quiet)
    try:
        quantize_dynamic(graph, path, weight_type=QuantType.QInt8)
    finally:
        logging.getLogger().removeFilter(_quiet)


def _quiet(_: logging.LogRecord) -> bool:
    """The quantiser advises preprocessing on the root logger; shape inference is done by the exporter already."""
    return False


_MAKERS: Mapping[str, Callable[[Path, Path], None]] = {"float16": _half, "int8": _eight_bits}


def _answers(session: onnxruntime.InferenceSession, rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """`probability` `(n, k)` and `attributions` `(n, a)`, row by row."""
    total = len(next(iter(rows.values())))
    names = [item.name for item in session.get_inputs()]
    parts = [
        session.run(["probability", "attributions"], {name: rows[name][row : row + 1] for name in names})
        for row in range(total)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _difference(ours: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Of finite answers; one that became not-a-number differs by infinity."""
    both = np.isnan(reference)
    gap = np.abs(ours.astype(np.float64) - reference.astype(np.float64))[~both]
    return float(np.where(np.isnan(gap), np.inf, gap).max())
