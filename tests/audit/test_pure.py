"""The formats are pure: whoever audits them need not look for files, clocks or randomness."""

import ast
from pathlib import Path

import pytest

AUDIT = Path(__file__).parent.parent.parent / "audit"
PURE = (
    "add_checkpoint",
    "anchor_check",
    "approvals",
    "checkpoint",
    "closing",
    "commitments",
    "cosignature",
    "encoding",
    "entry",
    "entry_custody",
    "entry_monitoring",
    "entry_operations",
    "fields",
    "errors",
    "key_history",
    "merkle",
    "note",
    "payloads",
    "proof",
    "retention",
    "tile_reader",
    "tiles",
    "tombstones",
    "verify",
)
ALLOWED = {"base64", "binascii", "collections", "contextlib", "dataclasses", "hashlib", "hmac", "re", "struct"}
ALLOWED |= {"cryptography", "datetime", "itertools", "math", "msgspec", "typing"}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_nothing_that_does_io(name: str) -> None:
    pure = {f"audit.{module}" for module in PURE} | {"audit.storage"}
    for module in _imports(AUDIT / f"{name}.py"):
        assert module.split(".")[0] in ALLOWED or module in pure or (name, module) == ("verify", "audit.committer")


def test_pure_modules_read_no_clock() -> None:
    for name in PURE:
        source = (AUDIT / f"{name}.py").read_text()
        assert "now(" not in source
        assert "urandom" not in source
