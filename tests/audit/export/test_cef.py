"""CEF lines: every value survives its escapes, and the line says where in the log it is from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import FormatError
from audit.export.cef import MAX_VALUE, CefEvent, cef_line, format_cef, parse_cef
from tests.audit.export.examples import DECISION, EXAMPLES, ORIGIN, UNKNOWN, changed, digest, example, record_of

AWKWARD = st.text(st.sampled_from('\\|=\n\r n"r ax=é\u2028\u0085\x00'), max_size=12) | st.text(max_size=8)
HEADER = AWKWARD.filter(lambda text: "\n" not in text and "\r" not in text)
KEYS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9]{0,5}\Z", re.ASCII), fullmatch=True)
EVENTS = st.builds(
    CefEvent,
    vendor=HEADER,
    product=HEADER,
    version=HEADER,
    signature=HEADER,
    name=HEADER,
    severity=HEADER,
    extension=st.dictionaries(KEYS, AWKWARD, max_size=4),
)


@given(event=EVENTS)
def test_parse_gives_back_what_was_formatted(event: CefEvent) -> None:
    line = format_cef(event)
    assert "\n" not in line
    assert "\r" not in line
    assert parse_cef(line) == event
    assert list(parse_cef(line).extension) == list(event.extension)


@given(text=st.text(st.sampled_from("CEF:0|a\\=| \n"), max_size=40) | st.text(max_size=40))
def test_parse_never_fails_otherwise_than_by_format_error(text: str) -> None:
    try:
        parse_cef("CEF:0|" + text)
    except FormatError:
        return


def test_the_escapes_are_those_of_the_standard() -> None:
    event = CefEvent("a|b\\c", "p", "1", "s", "n=m", "3", {"msg": "x=1\\2|3\nnext"})
    assert format_cef(event) == "CEF:0|a\\|b\\\\c|p|1|s|n=m|3|msg=x\\=1\\\\2|3\\nnext"


def test_a_header_cannot_hold_a_line_end_nor_a_key_a_space() -> None:
    event = CefEvent("a", "p", "1", "s", "n\nm", "3", {})
    with pytest.raises(FormatError, match="line end"):
        format_cef(event)
    with pytest.raises(FormatError, match="as key"):
        format_cef(CefEvent("a", "p", "1", "s", "n", "3", {"a b": "c"}))


@pytest.mark.parametrize(
    "line", ["CEF:1|a|b|c|d|e|f|", "CEF:0|a|b|c|d|e", "CEF:0|a|b|c|d|e|3|novalue", "CEF:0|a|b|c|d|e|3|a=1 a=2", ""]
)
def test_what_is_not_cef_is_refused(line: str) -> None:
    with pytest.raises(FormatError):
        parse_cef(line)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_names_its_place_in_the_log(name: str) -> None:
    record = record_of(EXAMPLES[name], 17)
    event = parse_cef(cef_line(record))
    extension = event.extension
    labels = {extension[f"{key}Label"]: value for key, value in extension.items() if f"{key}Label" in extension}
    assert (labels["logOrigin"], labels["logIndex"], labels["leafHash"]) == (ORIGIN, "17", record.leaf_hex)
    assert labels["treeSize"] == "100"
    assert event.signature == record.header.type
    assert (extension["rt"], extension["externalId"]) == ("1772352000000", record.header.id)
    assert 0 <= int(event.severity) <= 10


def test_a_decision_says_who_asked_what_and_what_came_of_it() -> None:
    extension = parse_cef(cef_line(example("decision"))).extension
    assert (extension["act"], extension["outcome"]) == ("patient-view", "answered")
    assert (extension["suid"], extension["spriv"]) == (digest("practitioner"), "Practitioner")
    assert (extension["cs3"], extension["cs4"]) == ("prevent-cvd", "prevent_cvd@1.0.0")


@pytest.mark.parametrize(
    ("name", "changes", "severity"),
    [
        ("decision", {"status": "answered"}, "2"),
        ("decision", {"status": "failed"}, "6"),
        ("gap", {}, "8"),
        ("switch", {"off": True}, "8"),
        ("switch", {"off": False}, "6"),
        ("verification", {"outcome": "invalid"}, "10"),
        ("access", {"action": "decrypt"}, "4"),
        ("access", {"action": "read"}, "2"),
    ],
)
def test_severity_is_higher_the_graver_it_is(name: str, changes: dict[str, object], severity: str) -> None:
    assert parse_cef(cef_line(changed(EXAMPLES[name], **changes))).severity == severity


def test_an_unknown_kind_still_has_its_place() -> None:
    event = parse_cef(cef_line(record_of(UNKNOWN, 3)))
    assert (event.signature, event.extension["cn1"]) == ("novelty/v7", "3")


def test_long_values_are_cut() -> None:
    codes = tuple(f"reason-{number:04}" for number in range(200))
    extension = parse_cef(cef_line(changed(DECISION, abstention=codes))).extension
    assert len(extension["reason"]) == MAX_VALUE
