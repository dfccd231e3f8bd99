"""Checks that look into a graph's file, beside `model_artifacts.checks`: they need onnx, which serving doesn't.

To add one: a function of a `Subject` and a line in `GRAPH_CHECKS`.
"""

from __future__ import annotations

import re

import onnx

from model_artifacts.checks import Check, Subject, require

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""ONNX's own operators, and those of classical learning (trees, scalers); an operator of anybody else's isn't run."""
_OF_THE_MACHINE = re.compile(rb"/(root|home|tmp|work|Users)/|site-packages|\.py\b")


def read_graph(subject: Subject) -> onnx.ModelProto:
    """The graph as it lies in the folder."""
    return onnx.load(subject.model.folder / subject.model.manifest.artifact.file)


def check_opset(subject: Subject) -> None:
    """The graph has the opset that the manifest declares, and no operators but ONNX's own."""
    graph, declared = read_graph(subject), subject.model.manifest.artifact.opset
    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    require(opsets.get("") == declared, f"opset: expected {declared}, got {opsets.get('')}")
    foreign = ({node.domain for node in graph.graph.node} | opsets.keys()) - DOMAINS
    require(not foreign, f"operators: expected ONNX's own, got some of {', '.join(sorted(foreign))}")


def check_tells_nothing_of_its_machine(subject: Subject) -> None:
    """No names of files, no notes, no metadata of where and when it was made."""
    model = read_graph(subject)
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    require(not any(part.doc_string for part in parts), "graph: expected no notes")
    noted = model.metadata_props or graph.metadata_props or any(node.metadata_props for node in graph.node)
    require(not noted, "graph: expected no metadata")
    data = (subject.model.folder / subject.model.manifest.artifact.file).read_bytes()
    require(not _OF_THE_MACHINE.search(data), "graph: expected no names of folders or modules")


GRAPH_CHECKS: dict[str, Check] = {
    "opset": check_opset,
    "tells-nothing-of-its-machine": check_tells_nothing_of_its_machine,
}
