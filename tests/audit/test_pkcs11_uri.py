from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import KeyFileError
from audit.pkcs11_uri import Pkcs11Uri, format_uri, parse_uri

MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"
TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1)
PATHS = TEXT.map(lambda text: "/" + text)


@given(
    st.builds(
        Pkcs11Uri, PATHS, TEXT, st.none() | TEXT, TEXT, st.none() | st.binary(min_size=1), st.none() | PATHS.map(str)
    )
)
def test_pkcs11_uri_round_trips(uri: Pkcs11Uri) -> None:
    if uri.pin_file is not None and uri.pin_file.startswith("//"):  # read as file://
        return
    assert parse_uri(format_uri(uri)) == uri


def test_pkcs11_uri_of_the_specification_is_read() -> None:
    # RFC 7512 §3, with the module named by its path
    text = "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=my-certificate;id=%69%95%3E%5C%F4%BD%EC%91"
    uri = parse_uri(f"{text}?pin-source=file:/etc/token_pin&{MODULE}")
    assert (uri.token, uri.object) == ("The Software PKCS#11 Softtoken", "my-certificate")
    assert (uri.id, uri.pin_file) == (bytes.fromhex("69953e5cf4bdec91"), "/etc/token_pin")


@pytest.mark.parametrize("source", ["file:/etc/pin", "file:///etc/pin", "/etc/pin"])
def test_pkcs11_uri_reads_where_the_pin_is(source: str) -> None:
    assert parse_uri(f"pkcs11:token=t;object=o?{MODULE}&pin-source={source}").pin_file == "/etc/pin"


@pytest.mark.parametrize(
    "text",
    [
        "token=t;object=o",
        f"pkcs11:object=o?{MODULE}",
        f"pkcs11:token=t?{MODULE}",
        "pkcs11:token=t;object=o",
        "pkcs11:token=t;object=o?module-path=softhsm.so",
        f"pkcs11:token=t;object=o;slot-id=1?{MODULE}",
        f"pkcs11:token=t;object=o;object=p?{MODULE}",
        f"pkcs11:token=t;object=?{MODULE}",
        f"pkcs11:token=t;object=%zz?{MODULE}",
        f"pkcs11:token=t;object=%ff?{MODULE}",
        f"pkcs11:token=t;object=%0a?{MODULE}",
        f"pkcs11:token=t;object=o?{MODULE}&pin-source=|/bin/echo",
        f"pkcs11:token=t;object=o?{MODULE}&pin-source=file:pin",
        f"pkcs11:token=t;object=o?{MODULE}&pin-source=file:/p&pin-value=1",
    ],
)
def test_pkcs11_uri_that_is_not_enough_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError, match="pkcs11 uri"):
        parse_uri(text)


@given(st.text() | st.text().map(lambda text: f"pkcs11:token=t;object={text}?{MODULE}"))
def test_pkcs11_uri_parser_raises_only_its_own_error(text: str) -> None:
    with suppress(KeyFileError):
        parse_uri(text)


def test_pkcs11_uri_never_shows_its_pin() -> None:
    uri = parse_uri(f"pkcs11:token=t;object=o?{MODULE}&pin-value=4711")
    assert uri.pin == "4711"
    assert not any("4711" in shown for shown in (repr(uri), str(uri), format_uri(uri)))
    with pytest.raises(KeyFileError) as caught:
        parse_uri("pkcs11:token=t?pin-value=4711")
    assert "4711" not in str(caught.value)
