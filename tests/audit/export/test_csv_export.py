import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import open_checkpoint
from audit.errors import EntryError, StorageError
from audit.export.csv_export import COLUMNS, safe_cell, write_csv
from audit.merkle import LeafIndex, leaf_hash
from tests.audit.export.bundles import switch_entry
from tests.audit.memory_tree import SIGNER, MemoryTree, plain_entries


def _tree(size: int) -> MemoryTree:
    tree = MemoryTree()
    tree.grow(switch_entry(number) for number in range(size))
    return tree


def _rows(tree: MemoryTree, *part: int) -> list[list[str]]:
    out = io.StringIO(newline="")
    write_csv(out, tree, *map(LeafIndex, part))
    return list(csv.reader(io.StringIO(out.getvalue(), newline="")))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257])
def test_csv_has_a_row_per_entry_and_the_checkpoint_line_by_line(size: int) -> None:
    tree = _tree(size)
    head, *rows = _rows(tree)
    facts = [row for row in rows if len(row) > 1]
    assert tuple(head) == COLUMNS
    assert [row[:4] for row in facts] == [
        [str(index), leaf_hash(switch_entry(index)).hex(), f"{index:032x}", "switch/v1"] for index in range(size)
    ]
    note = "\n".join(row[0].removeprefix("checkpoint: ") for row in rows if len(row) == 1)
    assert open_checkpoint(note.encode(), [SIGNER.verifier_key]).root == tree.root


def test_csv_gives_the_part_that_is_asked_for() -> None:
    rows = _rows(_tree(600), 255, 257)
    assert [row[0] for row in rows if len(row) > 1][1:] == ["255", "256", "257"]
    assert [row[0] for row in _rows(_tree(3), 2, 99) if len(row) > 1][1:] == ["2"]
    assert [row[0] for row in _rows(_tree(3), 3) if len(row) > 1][1:] == []


@given(st.text(max_size=20))
def test_csv_cell_is_never_a_formula_and_loses_nothing(text: str) -> None:
    safe = safe_cell(text)
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert text in (safe, safe[1:])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_csv_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == "'" + text


def test_csv_of_a_log_with_other_entries_or_a_lost_end_is_refused() -> None:
    tree = MemoryTree()
    tree.grow(plain_entries(2))
    with pytest.raises(EntryError):
        _rows(tree)
    tree = _tree(3)
    tree._entries.pop()
    with pytest.raises(StorageError, match="entry 2 is missing"):
        _rows(tree)
