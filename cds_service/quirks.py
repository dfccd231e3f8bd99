"""Where CDS clients differ from the specification, each difference by name.

A client of the registry has a profile, which is a set of quirks, and may name further ones. Code asks for a quirk, never
for a profile or a vendor: what differs is written once, here, and what follows from it stands where it matters.

To add a quirk: a member with its meaning and source, its place in `PROFILES` if a whole product has it, a line where it
matters, and a test named after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Quirk(StrEnum):
    """One way in which a client differs from CDS Hooks 2.0.1."""

    CDS_HOOKS_1_0 = "cds-hooks-1.0"
    """Knows only 1.0: no `any` selection, no topic, no override reasons, no feedback, no `isRecommended`."""
    CDS_HOOKS_3_0 = "cds-hooks-3.0"
    """Knows the 3.0 text: its prefetch tokens may hold simple FHIRPath (`{{today() - 730 days}}`)."""
    ALPHANUMERIC_TOPIC = "alphanumeric-topic"
    """Wants `source.topic.code` of at most 100 letters and digits, the same for each kind of card."""
    ONE_ACTION_PER_SUGGESTION = "one-action-per-suggestion"
    """Takes suggestions with exactly one action."""
    PLURAL_OVERRIDE_REASONS = "plural-override-reasons"
    """Sends feedback's reason as the array `overrideReasons`, or in `extension`."""
    OPAQUE_SCOPES = "opaque-scopes"
    """Writes scopes that are not SMART's, with blanks and parentheses: not to be taken apart."""
    ONE_ID_PER_HOOK = "one-id-per-hook"
    """Keeps services by id, so that an id under two hooks loses one: gets an id of its own for each hook."""
    SYSTEM_ACTIONS_IN_EXTENSION = "system-actions-in-extension"
    """Reads system actions from the response's `extension`, as before 2.0."""


PROFILES: Mapping[str, frozenset[Quirk]] = {
    "spec": frozenset(),
    "epic": frozenset(
        {
            Quirk.ALPHANUMERIC_TOPIC,
            Quirk.ONE_ACTION_PER_SUGGESTION,
            Quirk.PLURAL_OVERRIDE_REASONS,
            Quirk.OPAQUE_SCOPES,
        }
    ),
    "oracle": frozenset({Quirk.ONE_ACTION_PER_SUGGESTION}),
    "sandbox": frozenset({Quirk.ONE_ID_PER_HOOK, Quirk.SYSTEM_ACTIONS_IN_EXTENSION}),
}
