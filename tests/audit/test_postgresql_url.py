import contextlib
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import StorageError
from audit.storage.postgresql_url import DatabaseUrl, TlsFiles, load_database_url, parse_database_url

SECRET = "s3cret?/@#"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "postgresql://bedside:pass@db.example.org/logs",
            DatabaseUrl("db.example.org", 5432, "bedside", "pass", "logs", TlsFiles()),
        ),
        (
            "postgres://b:p@10.1.2.3:6543/l?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
            DatabaseUrl("10.1.2.3", 6543, "b", "p", "l", TlsFiles("/ca.pem", "/c.pem", "/k.pem")),
        ),
        ("postgresql://b@127.0.0.1/l?sslmode=disable", DatabaseUrl("127.0.0.1", 5432, "b", None, "l", None)),
        ("postgresql://b@[::1]:7/l?sslmode=disable", DatabaseUrl("::1", 7, "b", None, "l", None)),
        ("postgresql://b:p@/l?host=/run/postgresql&port=7", DatabaseUrl("/run/postgresql", 7, "b", "p", "l", None)),
        ("postgresql://b@%2Frun%2Fpostgresql/l", DatabaseUrl("/run/postgresql", 5432, "b", None, "l", None)),
    ],
)
def test_postgresql_url_says_where_and_how_to_connect(text: str, expected: DatabaseUrl) -> None:
    assert parse_database_url(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgresql://b:{}@db.example.org/l?sslmode=disable", "sslmode disable is for loopback"),
        ("postgresql://b:{}@db.example.org/l?sslmode=require", "sslmode verify-full"),
        ("postgresql://b:{}@db.example.org/l?sslmode=prefer", "sslmode verify-full"),
        ("postgresql://b:{}@/l?host=/run&sslmode=verify-full", "sslmode verify-full"),
        ("postgresql://b:{}@one,two/l", "expected postgresql"),
        ("postgresql://b:{}@db/l?options=-csearch_path%3Dx", "no other parameter"),
        ("postgresql://b:{}@db/l?sslmode=disable&sslmode=verify-full", "once at most"),
        ("postgresql://b:{}@db:1/l?port=2", "one port"),
        ("postgresql://b:{}@/l?host=/run&port=0", "one port"),
        ("postgresql://b:{}@db:notaport/l", "expected postgresql"),
        ("postgresql://b:{}@db:99999/l", "expected postgresql"),
        ("postgresql://b:{}@db/", "expected postgresql"),
        ("postgresql://db/l", "expected postgresql"),
        ("postgresql://b:{}@/l", "expected postgresql"),
        ("mysql://b:{}@db/l", "expected postgresql"),
        ("", "expected postgresql"),
    ],
)
@pytest.mark.parametrize("spelling", [quote(SECRET, safe=""), SECRET])
def test_postgresql_url_refuses_what_is_unsafe_or_unclear_without_telling_the_password(
    text: str, reason: str, spelling: str
) -> None:
    with pytest.raises(StorageError) as caught:
        parse_database_url(text.format(spelling))
    if spelling != SECRET:
        assert reason in str(caught.value)
    assert "s3cret" not in repr(caught.value) + str(caught.value.__cause__)


@given(st.text(max_size=80))
def test_postgresql_url_never_raises_another_error(text: str) -> None:
    for candidate in (text, f"postgresql://{text}", f"postgresql://b:p@db/l?{text}"):
        with contextlib.suppress(StorageError):
            parse_database_url(candidate)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20))
def test_postgresql_url_gives_back_any_name_that_was_percent_encoded(name: str) -> None:
    encoded = quote(name, safe="")
    url = parse_database_url(f"postgresql://{encoded}:{encoded}@db/{encoded}")
    assert (url.user, url.password, url.database) == (name, name, name)
    assert f"password={name!r}" not in repr(url)


def test_postgresql_url_lies_in_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "database-url"
    path.write_text("postgresql://b:s3cret@db/l\n")
    path.chmod(0o600)
    assert load_database_url(path).password == "s3cret"
    path.chmod(0o640)
    with pytest.raises(StorageError, match="database URL file database-url: expected mode 0600") as caught:
        load_database_url(path)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StorageError, match="unreadable"):
        load_database_url(tmp_path / "absent")
