"""Two hosts, one PostgreSQL, one log; one host killed in mid-batch, again and again. Bar: one order, no fork, nothing lost.

Two groups of two processes, each group with a directory, copied keys and a head file of its own, as two hosts have them, append
decisions with payloads to one log. Again and again the second group is held still, until one of its processes is caught with
the log's lock and an open transaction, between the lock and the commit; then the whole group is killed with SIGKILL, and
started anew once the first has gone on. In the end every receipt that either group was given must verify with the public key
alone and stand for a root of the log as it is now, each index must be given once, the heads of both hosts must be in the log,
and the log must verify in full. The longest time the first host then waited for its next acknowledgement is the pause.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from audit.log import LogConfig
from audit.proof import parse_proof
from audit.storage.opening import PostgresqlPlace, write_place
from audit.storage.postgresql_session import Session
from audit.storage.postgresql_url import parse_database_url
from benchmarks.drills import Figures
from benchmarks.drills.crash import judge, lines, wait_for_all
from benchmarks.drills.postgresql_server import PostgresqlServer, running_postgresql
from benchmarks.drills.workload import new_log, verify
from benchmarks.drills.writer import Writers

KILLS = 50
_PLACES, _THREADS = 2, 2
_SCHEMA = "two_hosts"
_TRIES = 2_000
_PAUSE_S = 0.005
_PATIENCE_S = 30.0
# A session that holds the log's lock and waits for its client's next word.
_HOLDERS = """SELECT client_port FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND granted AND state = 'idle in transaction'"""


def run(workspace: Path, scale: float) -> Figures:
    """The figures of KILLS * scale kills of the second host."""
    kills = max(2, round(KILLS * scale))
    with running_postgresql() as server:
        first, second = _two_hosts(server, workspace)
        return {"hosts": 2, "processes_per_host": _PLACES} | _attack(server, workspace, (first, second), kills)


def _two_hosts(server: PostgresqlServer, workspace: Path) -> tuple[LogConfig, LogConfig]:
    directory = workspace / "first"
    directory.mkdir(mode=0o700)
    write_place(directory, PostgresqlPlace(server.write_url(workspace / "database-url"), _SCHEMA))
    config = new_log(directory)
    shutil.copytree(directory, workspace / "second")
    return config, replace(config, directory=workspace / "second")


def _attack(server: PostgresqlServer, workspace: Path, hosts: tuple[LogConfig, LogConfig], kills: int) -> Figures:
    groups = []
    session = Session(parse_database_url(server.url()), _SCHEMA)
    try:
        for number, config in enumerate(hosts):
            folder = workspace / f"acknowledged-by-{number}"
            folder.mkdir()
            groups.append(Writers(config, folder, _PLACES, _THREADS))
        for group in groups:
            wait_for_all(group)
        begin = time.perf_counter()
        tries, pauses = zip(*(_kill(session, *groups) for _ in range(kills)), strict=True)
        seconds = time.perf_counter() - begin
    finally:
        session.close()
        for group in groups:
            group.kill_all()
    outputs = [[group.output(place) for place in range(len(group))] for group in groups]
    figures = judge(hosts[0], [output for outputs_of_one in outputs for output in outputs_of_one])
    heads = [config.head_file.read_bytes() for config in hosts]
    return figures | {
        "kills_in_mid_batch": kills,
        "times_held_still": sum(tries),
        "heads_in_the_log": verify(hosts[0], heads).heads - 1,  # one of them is counted twice
        "turns": _turns(outputs),
        "longest_pause_s": round(max(pauses), 3),
        "acknowledged_per_s": round(int(figures["acknowledged"]) / seconds),
    }


def _kill(session: Session, survivor: Writers, victim: Writers) -> tuple[int, float]:
    """Kills the victim in mid-batch and starts it anew.

    Gives how often it was held still for that, and how long the survivor's next acknowledgement took.
    """
    tries = 1
    while not _is_caught(session, victim):
        tries += 1
        if tries > _TRIES:
            raise RuntimeError("no process of the second host was ever caught with the lock")
        time.sleep(_PAUSE_S)
    before, begin = _size(survivor), time.perf_counter()
    victim.kill_all()
    _wait_for_more(survivor, before)
    pause_s = time.perf_counter() - begin
    before = _size(victim)
    for place in range(len(victim)):
        victim.replace(place)
    _wait_for_more(victim, before)
    return tries, pause_s


def _is_caught(session: Session, group: Writers) -> bool:
    """Whether one of the group, which now stands still, has the lock and hasn't sent its commit; if not, it goes on."""
    for pid in group.pids():
        os.kill(pid, signal.SIGSTOP)
    holders = {row[0] for row in session.script(_HOLDERS)}
    if any(holders & _ports(pid) for pid in group.pids()):
        return True
    for pid in group.pids():
        os.kill(pid, signal.SIGCONT)
    return False


def _ports(pid: int) -> set[int]:
    """The local ports of a process's TCP connections."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes}


def _size(group: Writers) -> int:
    """How many bytes of acknowledgements the group has written."""
    paths = [group.output(place) for place in range(len(group))]
    return sum(path.stat().st_size for path in paths if path.exists())


def _wait_for_more(group: Writers, size: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while _size(group) <= size:
        if time.monotonic() > until:
            raise RuntimeError("a host acknowledged nothing more")
        time.sleep(0.001)


def _turns(outputs: list[list[Path]]) -> int:
    """How often, along the log, an entry of one host follows one of the other."""
    owners = {parse_proof(proof).index: number for number, paths in enumerate(outputs) for _, proof in lines(paths)}
    return sum(one != other for one, other in pairwise(owners[index] for index in sorted(owners)))
