import os
import pwd

from audit.commitments import IndexKey, keyed_digest
from audit.operators import operator_digest, operator_name, present_operator

KEY = IndexKey(bytes(32))


def test_operators_have_their_account_s_name() -> None:
    assert operator_name(0) == pwd.getpwuid(0).pw_name


def test_operators_without_an_account_have_their_number() -> None:
    known = {account.pw_uid for account in pwd.getpwall()}
    unnamed = next(uid for uid in range(54_321, 60_000) if uid not in known)
    assert operator_name(unnamed) == f"uid:{unnamed}"


def test_operators_are_digests_in_entries(monkeypatch) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    name = operator_name(os.getuid())
    assert present_operator(KEY) == operator_digest(KEY, name) == keyed_digest(KEY, "operator", name.encode())
