"""What the conformance tests share."""

from __future__ import annotations
