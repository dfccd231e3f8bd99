"""The hooks this service answers, one module each.

To add a hook: write `hooks/<hook>.py` with a `parse(context: dict[str, object]) -> HookContext` and its specification's
example as a test, and add one line to `PARSERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from cds_service.hooks import patient_view
from cds_service.hooks.context import HookContext

PARSERS: dict[str, Callable[[dict[str, object]], HookContext]] = {
    patient_view.HOOK: patient_view.parse,
}
