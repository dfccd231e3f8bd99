"""Entry kinds about how a model does in service: what it was given and said, as counts, and the alarms that came of them.

As `audit.entry` says: kinds share no base, and one that has been released is never edited. A sketch holds counts over many
decisions and never a value of one. Which bins are meant is in the file whose digest is `reference`. Pure.
"""

import msgspec

from audit.fields import Code, Count, EntryId, Hex256, Millionths, Timestamp


class SketchedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model version, by digests, and the file its bins are from; None where only what is missing was counted."""

    id: Code
    version: Code
    artefact: Hex256
    manifest: Hex256
    reference: Hex256 | None


class OutputCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output: counts by bin, the last one of those without a value; its sum, and the sum of p(1-p), both in millionths."""

    counts: tuple[Count, ...]
    sum_e6: Count
    variance_e6: Count


class SketchEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="sketch/v1"
):
    """What one process counted of one model version's decisions between `since` and `until`; sketches add up.

    `decisions` are all of them, by their status in `results`; `shown` showed a card, `alerts` one that warns. All else is about
    the first decision of each patient on a day: `outside` were outside the population; the others, `counted`, abstained by the
    codes in `abstentions`, and are in `inputs`, for each evidence item the counts by bin, the last one of those without a
    value. `status` is `active` or `shadow`.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    model: SketchedModel
    status: Code
    since: Timestamp
    until: Timestamp
    decisions: Count
    results: dict[Code, Count]
    abstentions: dict[Code, Count]
    outside: Count
    shown: Count
    alerts: Count
    counted: Count
    inputs: dict[Code, tuple[Count, ...]]
    outputs: dict[Code, OutputCounts]


class AlarmEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="_t", tag="alarm/v1"):
    """A model version's figures left the bounds of its manifest, or came back; `action` is raise or clear.

    `measure` says which figure (psi, missing, novelty, abstention, calibration-slope, …) and `of` the input or output it is
    about, `use` whether the version was active or in shadow. `decisions` between `since` and `until` were looked at; `value`
    is the figure found, `limit` the bound it is held to.
    """

    id: EntryId
    time: Timestamp
    clock: Code
    tenant: Code
    action: Code
    model: SketchedModel
    use: Code
    measure: Code
    of: Code
    since: Timestamp
    until: Timestamp
    decisions: Count
    value_e6: Millionths
    limit_e6: Millionths
