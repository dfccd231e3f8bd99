"""Clients for tests: one that may do everything a specification's client may, and what differs from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bedside.clients import open_client
from bedside.config import Audit, Config
from cds_service.desk import Caller

REQUEST_ID = "0d3c1c6a-4e0f-4a5e-9b5e-3f1f2d6c7a88"
CLIENT = replace(open_client(Config(audit=Audit(tenant="north"))), id="north-ehr", issuer="https://ehr.example.org")
CALLER = Caller(CLIENT, REQUEST_ID)


def caller(**changes: Any) -> Caller:
    """The caller whose client differs in `changes`."""
    return Caller(replace(CLIENT, **changes), REQUEST_ID)
