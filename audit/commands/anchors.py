"""How the verbs word what outsiders gave for a log's heads."""

from audit.anchor_check import Anchored, AnchorReport

_NONE = "none: nothing outside this host shows that the log wasn't rewritten by its operator"


def describe_anchors(report: AnchorReport) -> list[str]:
    """A line for the cosignatures, one for the time stamps, and one where no entry names some of them."""
    lines = [
        f"cosignatures: {_described(report.cosignatures, '--witness-key')}",
        f"time stamps: {_described(report.timestamps, '--tsa-roots')}",
    ]
    if report.unnamed:
        lines.append(f"anchors that no entry names: {report.unnamed}")
    return lines if report.timestamps.count or report.cosignatures.count else [f"cosignatures and time stamps: {_NONE}"]


def _described(anchored: Anchored, option: str) -> str:
    if not anchored.count:
        return "none"
    if anchored.newest_size is None:
        return f"{anchored.count}, none checked against keys given with {option}"
    time = "an unreadable time" if anchored.newest_time is None else anchored.newest_time.isoformat(timespec="seconds")
    if anchored.checked == anchored.count:
        checked = "all checked against the keys given"
    else:
        checked = f"{anchored.checked} checked against keys given with {option}"
    return f"{anchored.count}, the newest for size {anchored.newest_size} at {time}; {checked}"
