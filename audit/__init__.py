"""The signed decision log: an RFC 6962 tree with C2SP checkpoints, stored in SQLite, verifiable by anyone offline.

`merkle`, `note`, `checkpoint`, `tiles`, `proof`, `entry`, `commitments` and `encoding` are pure: bytes in, bytes out.
`storage`, `keys`, `log`, `verify` and `commands` do I/O. The package knows bytes, not medicine.
"""
