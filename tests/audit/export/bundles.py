"""A bundle with all that one can hold, and the verifier run as an auditor would: by itself, in an empty environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.cosignature import Cosigner
from audit.entry import format_entry
from audit.entry_operations import KeyRotationEntry, SwitchEntry
from audit.export.bundle import Bundle, write_bundle
from audit.note import Note, VerifierKey, format_note, format_vkey, parse_note
from audit.storage import Anchor
from tests.audit.memory_tree import SIGNER, MemoryTree

KEY = format_vkey(SIGNER.verifier_key)
WITNESSES = tuple(Cosigner(f"witness.example/w{number}", bytes([number] * 32)) for number in range(3))
POLICY = "".join(
    [
        f"log {KEY}\n",
        *(f"witness w{number} {format_vkey(one.verifier_key)}\n" for number, one in enumerate(WITNESSES)),
        "group two 2 w0 w1 w2\nquorum two\n",
    ]
).encode()


@dataclass(frozen=True)
class Ran:
    """What the verifier said."""

    status: int
    out: str
    err: str


def run_verifier(*arguments: object, script: Path) -> Ran:
    """Runs it isolated: no site packages, no environment, nothing of ours to import."""
    command = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={}, cwd="/")
    return Ran(done.returncode, done.stdout, done.stderr)


def switch_entry(number: int) -> bytes:
    """A small entry of ours."""
    fields: dict[str, Any] = {"time": "2026-03-01T08:00:00.000000Z", "clock": "synchronised", "tenant": "north"}
    fields |= {"scope": "model", "name": "prevent_cvd", "off": True, "reason": "drill", "operator": None}
    return format_entry(SwitchEntry(id=f"{number:032x}", **fields))


def rotation_entry(number: int, action: str, key: VerifierKey) -> bytes:
    """A signing key comes or goes."""
    fields: dict[str, Any] = {"time": "2026-03-01T08:00:00.000000Z", "clock": "synchronised", "tenant": "north"}
    fields |= {"purpose": "signing", "key_id": key.key_id.hex(), "reason": "scheduled", "operator": None}
    return format_entry(KeyRotationEntry(id=f"{number:032x}", action=action, vkey=format_vkey(key), **fields))


def cosign(tree: MemoryTree, *witnesses: Cosigner, time_s: int = 1_772_352_000) -> None:
    """Has the witnesses sign the newest checkpoint, and keeps what they give."""
    note = parse_note(tree.newest_checkpoint().note)
    for witness in witnesses:
        evidence = format_note(Note(note.text, (*note.signatures, witness.cosign(note.text, time_s))))
        tree.kept.append(Anchor(tree.size, "cosignature", witness.verifier_key.name, evidence, ""))


def cosigned_tree(*sizes: int) -> MemoryTree:
    """A log that two witnesses have seen at each of these sizes but the last."""
    tree = MemoryTree()
    for size in sizes:
        tree.grow(switch_entry(number) for number in range(tree.size, size))
        if size != sizes[-1]:
            cosign(tree, *WITNESSES[:2])
    return tree


def bundle(folder: Path, tree: MemoryTree, keys: Sequence[VerifierKey] = (SIGNER.verifier_key,), **more: Any) -> Bundle:
    """Writes the bundle, under the policy that two of three witnesses have to have signed."""
    return write_bundle(folder, tree, keys, **({"policy": POLICY} | more))
