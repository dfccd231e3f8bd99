"""What the witnesses hold, brought to where opening a log is compared with it; called before it is opened.

The heads directory alone could be put back together with the store. What a witness gives out now could not.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from audit.errors import FormatError, SignatureError
from audit.heads import keep_head
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import LogConfig
from audit.outside import Ask, OutsideError
from audit.witnessing import KnownWitness, fetch_head

log = logging.getLogger("bedside.audit.heads")

# A start waits no longer for witnesses that don't answer.
START_TIMEOUT_S = 2.0


def keep_witness_heads(
    config: LogConfig, witnesses: Sequence[KnownWitness], ask: Ask, *, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Brings what the witnesses cosigned last into the heads directory; to be called before the log is opened.

    Witnesses are asked side by side. One that can't be reached, or gives nothing that it and the log signed, is a warning in
    the operations log and no more: a start must not hang on an outsider.

    Raises:
        KeyFileError: the log's verifier keys can't be read.
        StorageError: a head can't be kept, so that opening couldn't be compared with it.
    """
    asked = [witness for witness in witnesses if witness.monitoring_url]
    if not asked:
        return
    keys = load_vkeys(config.directory / VKEY_FILE)

    def fetched(witness: KnownWitness) -> bytes | None:
        try:
            return fetch_head(witness, keys, config.origin, ask, timeout_s=timeout_s)
        except (OutsideError, FormatError, SignatureError) as exc:
            log.warning("witness not compared with", extra={"witness": witness.name, "why": str(exc)})
            return None

    with ThreadPoolExecutor(len(asked), thread_name_prefix="witness-head") as pool:
        notes = list(pool.map(fetched, asked))
    for witness, note in zip(asked, notes, strict=True):
        if note is not None:
            keep_head(config.heads_directory, witness.name, note)
