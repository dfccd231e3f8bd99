"""Where CDS clients differ from the specification, each difference by name.

A client of the registry has a profile, which is a set of quirks, and may name further ones. Code asks for a quirk, never
for a profile or a vendor: what differs is written once, here, and what follows from it stands where it matters.

To add a quirk: a member with its meaning and source, its place in `PROFILES` if a whole product has it, a line where it
matters, and a test named after it.

Sources, read 2026-11-24. [E1] Epic's CDS Hooks tutorial, https://fhir.epic.com/Documentation?docId=cds-hooks, which needs
a login; its field notes were read where public services quote them, its JWT section in a public copy of 2024. [C1] Cerner's
page on CDS Hooks as proposed in https://github.com/cerner/fhir.cerner.com/pull/707 (2021, never merged; no later public
page was found). [S1] https://github.com/cds-hooks/sandbox, `src/middleware/cds-execution.js`. [M1] `@medplum/core` 5.2.13,
https://github.com/medplum/medplum/blob/main/packages/core/src/cds.ts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Quirk(StrEnum):
    """One way in which a client differs from CDS Hooks 2.0.1."""

    CDS_HOOKS_1_0 = "cds-hooks-1.0"
    """Knows only 1.0: no `any` selection, topic, override reasons, `isRecommended`, card `uuid`, feedback or system actions.
    [C1] links to 1.0 for the answer's form; https://cds-hooks.hl7.org/1.0/#card-attributes."""
    CDS_HOOKS_3_0 = "cds-hooks-3.0"
    """Knows the 3.0 text: its prefetch tokens may hold simple FHIRPath (`{{today() - 730 days}}`).
    https://build.fhir.org/ig/HL7/cds-hooks/."""
    ALPHANUMERIC_TOPIC = "alphanumeric-topic"
    """Wants `source.topic.code` of at most 100 letters and digits, the same for each kind of card: what a user overrides is
    kept by that code, so two kinds of card must not share one. [E1]"""
    ONE_ACTION_PER_SUGGESTION = "one-action-per-suggestion"
    """Takes suggestions with exactly one action. Nothing has to be done: a `Suggestion` can hold no more. [E1]"""
    PLURAL_OVERRIDE_REASONS = "plural-override-reasons"
    """Sends feedback's reason as the array `overrideReasons`, or in `extension`. [E1]"""
    OPAQUE_SCOPES = "opaque-scopes"
    """Writes scopes that are not SMART's, with blanks and parentheses: not to be taken apart. [E1]"""
    NO_APP_CONTEXT = "no-app-context"
    """Does not hand a link's `appContext` to the app: links go without. [C1]"""
    ONE_ID_PER_HOOK = "one-id-per-hook"
    """Keeps services by id, so that an id under two hooks loses one: gets an id of its own for each hook. [S1] overwrites
    the earlier; [M1] calls a service by its id alone."""
    SYSTEM_ACTIONS_IN_EXTENSION = "system-actions-in-extension"
    """Reads system actions from the response's `extension`, as before 2.0. [S1]"""


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
    "oracle": frozenset({Quirk.CDS_HOOKS_1_0, Quirk.NO_APP_CONTEXT}),
    "medplum": frozenset({Quirk.ONE_ID_PER_HOOK}),
    "sandbox": frozenset({Quirk.ONE_ID_PER_HOOK, Quirk.SYSTEM_ACTIONS_IN_EXTENSION}),
}


def profile_quirks(profile: str, extra: Iterable[str]) -> frozenset[Quirk]:
    """The quirks of `profile` and those named in `extra`.

    Raises:
        ValueError: no such profile or quirk; the message names those there are.
    """
    if profile not in PROFILES:
        message = f"profile: expected one of {', '.join(PROFILES)}, got {profile!r}"
        raise ValueError(message)
    return PROFILES[profile].union(map(_quirk, extra))


def _quirk(name: str) -> Quirk:
    try:
        return Quirk(name)
    except ValueError:
        message = f"quirk: expected one of {', '.join(Quirk)}, got {name!r}"
        raise ValueError(message) from None
