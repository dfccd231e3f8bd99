"""`python -m benchmarks.drills NAME…` (`make drill`): runs drills and writes down what they showed.

Every drill gets an empty folder of its own, which is removed afterwards. At any scale below 1 nothing is written: the page
tells of full bars only. Ends with 1 when a drill failed or a bar doesn't hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.drills import DRILLS, DrillSkippedError, available, load
from benchmarks.drills.evidence import (
    EVIDENCE,
    PAGE,
    Record,
    broken_bars,
    load_evidence,
    machine,
    render,
    save_evidence,
)
from benchmarks.machine import sync_ms


def run_drill(name: str, workspace: Path, scale: float) -> Record:
    """What the drill showed in an empty folder under `workspace`, and where."""
    with tempfile.TemporaryDirectory(prefix=f"drill-{name}-", dir=workspace) as folder:
        measured = machine() | {"fsync_ms": round(sync_ms(Path(folder)), 3)}
        begin = time.perf_counter()
        figures = load(name).run(Path(folder), scale)
        seconds = round(time.perf_counter() - begin, 1)
    return {"figures": figures, "seconds": seconds, "command": f"make drill DRILL={name}", "machine": measured}


def main(arguments: list[str] | None = None) -> int:
    """Runs them; 0 when all ran and every bar that was looked at holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drills", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(available())}")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the full bar; below 1 nothing is written")
    parser.add_argument("--workspace", type=Path, help="where the logs lie; default: the temporary folder")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    parser.add_argument("--render", action="store_true", help="write the page from the records, run nothing")
    options = parser.parse_args(arguments)
    if options.render:
        PAGE.write_text(render(load_evidence(EVIDENCE)), encoding="utf-8")
        return 0
    names = options.names or available()
    if unknown := sorted(set(names) - set(available())):
        parser.error(f"no drill {', '.join(unknown)}; there are {', '.join(available())}")
    failed = 0
    for name in sorted(names, key=DRILLS.index):
        failed += not _run_one(name, options.workspace, options.scale, write=options.scale >= 1 and not options.dry)
    return 1 if failed else 0


def _run_one(name: str, workspace: Path | None, scale: float, *, write: bool) -> bool:
    _say(f"{name}: begins")
    try:
        record = run_drill(name, workspace or Path(tempfile.gettempdir()), scale)
    except DrillSkippedError as exc:
        _say(f"{name}: skipped, {exc}")
        return True
    except Exception:  # noqa: BLE001 - border: one drill that fails doesn't take the others along
        _say(f"{name}: failed\n{traceback.format_exc()}")
        return False
    for figure, value in record["figures"].items():
        sys.stdout.write(f"{name}.{figure} = {value}\n")
    sys.stdout.flush()
    broken = broken_bars(name, record["figures"], full=scale >= 1)
    _say(f"{name}: {record['seconds']} s" + "".join(f"\n  NOT MET: {bar}" for bar in broken))
    if write:
        evidence = load_evidence(EVIDENCE) | {name: record}
        save_evidence(EVIDENCE, evidence)
        PAGE.write_text(render(evidence), encoding="utf-8")
    return not broken


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
