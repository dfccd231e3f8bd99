"""A process that forks one that dies in the middle of an act of custody, for each job: victim.py, jobs on standard input.

A job is a JSON line {"directory", "request", "act", "step", "time"}: open the log, carry out the request, and at the given
time that the step is reached, SIGKILL. One line `killed` or `survived` comes back for each.
"""

import json
import os
import signal
import sys
from pathlib import Path

from audit import erasure, holds
from tests.audit.custody_log import Room

ACTS = {"erasure": erasure.carry_out, "hold": holds.carry_out}


def carry_out(job: dict[str, str | int]) -> None:
    """Carries out the job's request, and doesn't come back if its step is reached."""
    left = int(job["time"])

    def reached(step: str) -> None:
        nonlocal left
        if step == job["step"]:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    erasure.KEYS_AT_A_TIME = 1
    with Room(Path(str(job["directory"]))).custody(reached) as custody:
        ACTS[str(job["act"])](custody, str(job["request"]))


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            carry_out(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "survived", flush=True)


if __name__ == "__main__":
    main()
