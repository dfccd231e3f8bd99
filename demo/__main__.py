"""`python -m demo --bedside URL [--port P]` starts the pocket EHR; with `--once` it fires patient-view and ends.

The one module of the demonstration that reads a clock and writes files.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from demo.chart_view import view_banner
from demo.client import CdsCall, Via
from demo.ehr import PocketEhr, running_ehr
from demo.errors import DemoError
from demo.store import Chart
from demo.terminal import call_lines, patient_lines


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all went well, 1 when a call failed or no card gave a risk, 2 when the EHR could not do its work."""
    options = _parser().parse_args(arguments)
    try:
        with running_ehr(options.bedside, _now, options.port, key_file=options.key_file) as ehr:
            if options.token_file is not None:
                write_secret(options.token_file, ehr.fhir.token)
            if options.once:
                return show_once(ehr, options.receipts)
            print(f"Pocket EHR on {ehr.origin}/ (stop with Ctrl-C)", flush=True)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
    except (DemoError, OSError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description="A pocket EHR that shows Bedside at work.")
    parser.add_argument("--bedside", required=True, metavar="URL", help="base URL of the CDS service")
    parser.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1, 0 for a free one (default 8090)")
    parser.add_argument("--once", action="store_true", help="fire patient-view for every patient, print the cards, end")
    parser.add_argument(
        "--receipts", type=Path, metavar="DIR", help="with --once: write each answer's .tlog-proof here"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="write the FHIR server's bearer token here")
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="private key that signs its calls; made if it isn't there"
    )
    return parser


def _now() -> datetime:
    return datetime.now(UTC)


def show_once(ehr: PocketEhr, receipts: Path | None) -> int:
    """Every patient with prefetch, and the first one also through the FHIR server; prints and says how it went."""
    rounds = [(chart, Via.PREFETCH) for chart in ehr.store.charts]
    rounds += [(chart, Via.FHIR) for chart in ehr.store.charts[:1]]
    calls: list[CdsCall] = []
    for chart, via in rounds:
        fired = ehr.client.patient_view(chart, via)
        calls += fired
        _print_round(chart, fired)
        if receipts is not None:
            write_receipts(receipts, chart, fired)
    _tell_what_became_of_them(ehr, calls)
    failed = sum(1 for call in calls if call.status != 200 or call.problems)
    risks = sum(1 for call in calls for card in call.cards if card.states_a_risk)
    print(f"\n{len(calls)} calls, {failed} failed, {risks} cards with a risk")
    return 0 if failed == 0 and risks > 0 else 1


def _print_round(chart: Chart, calls: Sequence[CdsCall]) -> None:
    lines = patient_lines(view_banner(chart, _now()), chart.note)
    for call in calls:
        lines += call_lines(call)
    print("\n".join(lines))


def _tell_what_became_of_them(ehr: PocketEhr, calls: Sequence[CdsCall]) -> None:
    """The first suggestion is accepted, and the next card that offers a reason for it is not followed."""
    shown = [(call, card) for call in calls for card in call.cards if card.uuid is not None]
    accepted = next(((call, card, card.suggestions[0]) for call, card in shown if card.suggestions), None)
    if accepted is not None:
        ehr.client.accept(*accepted, _now())
        print(f"\nAccepted: {accepted[2].label}")
    followed = None if accepted is None else accepted[1]
    overridden = next(((call, card) for call, card in shown if card.override_reasons and card is not followed), None)
    if overridden is not None:
        reason = overridden[1].override_reasons[0]
        ehr.client.override(*overridden, reason, _now())
        print(f"Not followed, with a reason: {reason.display}")


def write_receipts(folder: Path, chart: Chart, calls: Sequence[CdsCall]) -> None:
    """One file for each answer with a receipt: `<patient id>.<service id>.<way>.tlog-proof`."""
    folder.mkdir(parents=True, exist_ok=True)
    for call in calls:
        if call.receipt_proof is not None:
            name = re.sub(r"[^\w.-]", "_", f"{chart.patient_id}.{call.service.id}.{call.via}")
            (folder / f"{name}.tlog-proof").write_text(call.receipt_proof, encoding="utf-8", newline="\n")


def write_secret(path: Path, secret: str) -> None:
    """Writes a new file that only its owner can read. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret)


if __name__ == "__main__":
    raise SystemExit(main())
