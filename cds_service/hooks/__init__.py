"""The hooks this service answers, one module each.

To add a hook: write `hooks/<hook>.py` with `HOOK`, `VERSION` (the hook definition's own, for discovery) and
`parse(context) -> HookContext`, its specification's example as a test, and its name in `_HOOKS`. `context` has readers
for plain fields, `resources` for those that hold FHIR.
"""

from __future__ import annotations

from collections.abc import Callable

from cds_service.hooks import (
    allergyintolerance_create,
    appointment_book,
    encounter_discharge,
    encounter_start,
    medication_refill,
    medication_verify,
    order_dispatch,
    order_select,
    order_sign,
    patient_view,
    problem_list_item_create,
)
from cds_service.hooks.context import HookContext, Members

_HOOKS = (
    patient_view,
    order_select,
    order_sign,
    encounter_start,
    encounter_discharge,
    appointment_book,
    order_dispatch,
    allergyintolerance_create,
    problem_list_item_create,
    medication_refill,
    medication_verify,
)

PARSERS: dict[str, Callable[[Members], HookContext]] = {hook.HOOK: hook.parse for hook in _HOOKS}
HOOK_VERSIONS: dict[str, str] = {hook.HOOK: hook.VERSION for hook in _HOOKS}
