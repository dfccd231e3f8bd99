"""Other people's test vectors, each judged by our code and compared with what its source says (part of the drill `forgery`).

A further file of vectors is one function in `_JUDGES`, which yields for each case whether we judged as its source does.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from audit.checkpoint import open_checkpoint, parse_checkpoint
from audit.errors import AuditError, SignatureError
from audit.merkle import Frontier, TreeSize, check_consistency, check_inclusion, extend, leaf_hash, root
from audit.note import check_ed25519, open_note, parse_vkey
from audit.tiles import Tile, format_tile_path, parse_entry_bundle, parse_tile_path
from audit.witness import Witness, WitnessRefusalError, known_logs
from audit.witness_state import WitnessState, init_witness, load_cosigner
from benchmarks.drills import Figures
from benchmarks.drills.workload import now
from benchmarks.report import ROOT

VECTORS = ROOT / "tests" / "vectors" / "audit"
# Go's crypto/ed25519 and OpenSSL refuse these two kinds and accept the other 208 cases.
_REFUSED_BY_GO = {"non_canonical_R", "low_order_residue"}
_TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def judge_vectors(folder: Path = VECTORS) -> Figures:
    """How many vectors there are of each kind, how many were judged otherwise, and how many signatures were accepted."""
    figures: Figures = {}
    otherwise = 0
    for name, judge in _JUDGES.items():
        verdicts = list(judge(folder))
        figures[f"vectors_{name}"] = len(verdicts)
        otherwise += verdicts.count(False)
    figures["vectors_ed25519_accepted"] = sum(_accepts_signature(case) for case in _read(folder, _CCTV))
    return figures | {"vectors_judged_otherwise": otherwise}


def _inclusion(folder: Path) -> Iterator[bool]:
    for case in _lines(folder, "merkle_inclusion.jsonl"):
        leaf, expected, proof = _decoded(case["leafHash"]), _decoded(case["root"]), _hashes(case["proof"])
        yield _as_said(case, partial(check_inclusion, leaf, case["leafIdx"], case["treeSize"], proof, expected))


def _consistency(folder: Path) -> Iterator[bool]:
    for case in _lines(folder, "merkle_consistency.jsonl"):
        roots, proof = (_decoded(case["root1"]), _decoded(case["root2"])), _hashes(case["proof"])
        yield _as_said(case, partial(check_consistency, case["size1"], case["size2"], proof, *roots))


def _rfc6962(folder: Path) -> Iterator[bool]:
    tree = _read(folder, "rfc6962_tree.json")
    leaves = [leaf_hash(bytes.fromhex(text)) for text in tree["leaf_inputs_hex"]]
    roots = next(value for key, value in tree.items() if key.startswith("roots"))
    yield from (root(extend(Frontier(), leaves[:size])[0]).hex() == expected for size, expected in enumerate(roots))
    yield [leaf.hex() for leaf in leaves] == tree["node_hashes_hex_by_level"][0]


def _notes(folder: Path) -> Iterator[bool]:
    for case in _read(folder, "notes.json"):
        yield _as_said(case, partial(_open, case))


def _open(case: dict[str, Any]) -> None:
    match case["kind"]:
        case "vkey":
            parse_vkey(case["vkeys"][0])
        case "body":
            parse_checkpoint(case["note"])
        case "note":
            open_note(case["note"].encode(), [parse_vkey(vkey) for vkey in case["vkeys"]])
        case _:
            log_keys, witness_keys = ([parse_vkey(vkey) for vkey in case[name]] for name in ("vkeys", "witnesses"))
            open_checkpoint(case["note"].encode(), log_keys, witness_keys=witness_keys, quorum=len(witness_keys))


_CCTV = "cctv_ed25519vectors.json"


def _ed25519(folder: Path) -> Iterator[bool]:
    for case in _read(folder, _CCTV):
        yield _accepts_signature(case) == (not _REFUSED_BY_GO & set(case["flags"] or []))


def _accepts_signature(case: dict[str, Any]) -> bool:
    try:
        check_ed25519(bytes.fromhex(case["key"]), bytes.fromhex(case["sig"]), case["msg"].encode())
    except SignatureError:
        return False
    return True


def _tile_paths(folder: Path) -> Iterator[bool]:
    for case in _read(folder, "tile_paths.json"):
        tile = Tile(None if case["l"] == -1 else case["l"], case["n"], case["w"] or 256)
        yield format_tile_path(tile) == case["path"] and parse_tile_path(case["path"]) == tile


def _tiled_log(folder: Path) -> Iterator[bool]:
    key = parse_vkey(_TESSERA_KEY)
    for size in range(1, 16):
        checkpoint = open_checkpoint((folder / "tessera_log" / f"checkpoint.{size}").read_bytes(), [key])
        bundle = (folder / "tessera_log" / format_tile_path(Tile(None, 0, size))).read_bytes()
        leaves = [leaf_hash(entry) for entry in parse_entry_bundle(bundle, size)]
        grown = extend(Frontier(), leaves)[0]
        yield (checkpoint.size, checkpoint.root) == (TreeSize(size), root(grown))


def _witness(folder: Path) -> Iterator[bool]:
    """Requests in order to one witness; that of a log it doesn't know gets 404 by the specification since, and not 403."""
    vector = _read(folder, "witness_add_checkpoint.json")
    with tempfile.TemporaryDirectory() as state:
        init_witness(Path(state), "witness.example/w1", os.urandom)
        logs = known_logs([parse_vkey(vector["log_vkey"])])
        witness = Witness(load_cosigner(Path(state)), logs, WitnessState(Path(state)), now)
        for request in vector["requests"]:
            expected = 404 if "unknown log" in request["asserts"] else request["status"]
            try:
                witness.add_checkpoint(request["body"].encode())
                status = 200
            except WitnessRefusalError as refused:
                status = refused.status
            yield status == expected


_JUDGES: dict[str, Callable[[Path], Iterator[bool]]] = {
    "inclusion": _inclusion,
    "consistency": _consistency,
    "rfc6962": _rfc6962,
    "notes": _notes,
    "ed25519": _ed25519,
    "tile_paths": _tile_paths,
    "tiled_log": _tiled_log,
    "witness": _witness,
}


def _as_said(case: dict[str, Any], check: Callable[[], None]) -> bool:
    try:
        check()
    except AuditError:
        return bool(case["wantErr"])
    return not case["wantErr"]


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)


def _hashes(values: list[str] | None) -> list[bytes]:
    return [_decoded(value) for value in values or []]
