"""Who works at this machine, as entries may say it: the keyed digest of an account's name."""

import os
import pwd

from audit.commitments import Digest, IndexKey, keyed_digest

PURPOSE = "operator"


def operator_name(uid: int) -> str:
    """The account's name, or its number where it has none, as in many containers.

    Nothing of it is from the environment, which says whatever its user wishes.
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


def operator_digest(index_key: IndexKey, name: str) -> Digest:
    """What entries say of the operator `name`."""
    return keyed_digest(index_key, PURPOSE, name.encode())


def present_operator(index_key: IndexKey) -> Digest:
    """The operator who runs this process."""
    return operator_digest(index_key, operator_name(os.getuid()))
