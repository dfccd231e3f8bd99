from __future__ import annotations

import threading

from cds_service.call_ids import add_call_id, begin_call, call_ids, end_call


def test_call_ids_are_a_calls_until_it_ends() -> None:
    begin_call({"request_id": "a"})
    add_call_id("client", "north")
    assert call_ids() == {"request_id": "a", "client": "north"}
    begin_call({"request_id": "b"})
    assert call_ids() == {"request_id": "b"}
    end_call()
    assert call_ids() == {}


def test_call_ids_are_a_threads_own() -> None:
    seen: list[object] = []
    begin_call({"request_id": "a"})
    thread = threading.Thread(target=lambda: seen.append(call_ids()))
    thread.start()
    thread.join()
    end_call()
    assert seen == [{}]
