from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.clients import CdsClient
from cds_service.errors import TooManyCallsError
from cds_service.rate_limit import RateLimit
from tests.cds_service.callers import CLIENT


class Watch:
    """A clock that is set by hand, in seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def _taken(limit: RateLimit, per_minute: int, times: int, name: str = "ehr") -> int:
    """How many of so many calls are let through."""
    client, taken = replace(CLIENT, id=name, calls_per_minute=per_minute), 0
    for _ in range(times):
        try:
            limit.take(client)
            taken += 1
        except TooManyCallsError:
            pass
    return taken


def _use_up(limit: RateLimit, client: CdsClient) -> NoReturn:
    while True:
        limit.take(client)


def test_rate_limit_none_agreed_is_none() -> None:
    assert _taken(RateLimit(1, Watch()), 0, 1_000) == 1_000


@pytest.mark.parametrize(("workers", "share"), [(1, 10), (2, 5), (3, 4), (20, 1)])
def test_rate_limit_each_worker_has_its_share_rounded_up(workers: int, share: int) -> None:
    assert _taken(RateLimit(workers, Watch()), 10, 50) == share


def test_rate_limit_clients_do_not_use_up_each_others() -> None:
    limit = RateLimit(1, Watch())
    assert [_taken(limit, 3, 5, name) for name in ("north", "south")] == [3, 3]


def test_rate_limit_calls_come_back_evenly_and_no_more_than_a_minutes() -> None:
    watch = Watch()
    limit = RateLimit(1, watch)
    assert _taken(limit, 6, 10) == 6
    watch.now += 10
    assert _taken(limit, 6, 10) == 1
    watch.now += 3_600
    assert _taken(limit, 6, 10) == 6


def test_rate_limit_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    watch = Watch()
    limit = RateLimit(1, watch)
    assert _taken(limit, 6, 5) == 5
    watch.now -= 50
    assert _taken(limit, 6, 5) == 1


@given(share=st.integers(1, 200), workers=st.integers(1, 16), waited_s=st.floats(0, 59))
def test_rate_limit_says_after_how_many_seconds_and_keeps_it(share: int, workers: int, waited_s: float) -> None:
    watch = Watch()
    limit = RateLimit(workers, watch)
    client = replace(CLIENT, calls_per_minute=share * workers)
    for _ in range(share):
        limit.take(client)
    watch.now += waited_s
    with pytest.raises(TooManyCallsError) as caught:
        _use_up(limit, client)  # what came back meanwhile
    assert 1 <= caught.value.retry_after_s <= 60
    watch.now += caught.value.retry_after_s
    limit.take(client)
