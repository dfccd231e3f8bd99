"""Asks the hospital's servers: its FHIR server for data, its key server for the keys its JWTs are signed with."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bedside.config import Config
from cds_service.clients import CdsClient
from cds_service.desk import Access
from cds_service.gather import Fetched
from cds_service.request import FhirAuthorization
from fhir_adapters.client import FhirClient, fetch_all, fetch_document
from fhir_adapters.errors import FhirUpstreamError, OriginNotAllowedError
from fhir_adapters.outbound import AddressPolicy

KEY_SET_TIMEOUT_S = 2.0  # a call waits for it
MAX_KEY_SET_BYTES = 256 * 1024


class HospitalFhir:
    """Asks the caller's FHIR server, within the configured limits and only at the caller's registered addresses."""

    def __init__(self, config: Config) -> None:
        self._fhir = config.fhir

    def __call__(
        self, access: Access, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]
    ) -> Fetched:
        """Key to documents, or to the reason there are none."""
        client = access.caller.client
        if server.rstrip("/") not in client.fhir_servers:
            return dict.fromkeys(urls, OriginNotAllowedError("fhir server: expected an allowed one, got another"))
        if token is not None and client.subject is not None and token.subject != client.subject:
            return dict.fromkeys(urls, OriginNotAllowedError("fhirAuthorization.subject: expected this client"))
        try:
            return self._fetch(access, server, token, urls)
        except FhirUpstreamError as refused:
            return dict.fromkeys(urls, refused)

    def _fetch(self, access: Access, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]) -> Fetched:
        client = access.caller.client
        deadline = access.deadline
        if token is not None and token.expires_in is not None:
            deadline = min(deadline, time.monotonic() + token.expires_in)
        with FhirClient(
            server,
            None if token is None else token.access_token,
            allowed_servers=client.fhir_servers,
            policy=AddressPolicy(client.networks),
            headers=_headers(access),
            timeout_s=client.deadline_s,
            deadline=deadline,
            max_pages=self._fhir.max_pages,
            max_bytes=self._fhir.max_response_bytes,
        ) as fhir:
            answers = fetch_all(fhir, urls.values())
        return {key: answers[url] for key, url in urls.items()}


def fetch_key_set(client: CdsClient, url: str) -> bytes:
    """The key set at `url`, which is one of the client's.

    Raises:
        FhirUpstreamError: it can't be had.
    """
    return fetch_document(
        url,
        policy=AddressPolicy(client.networks),
        timeout_s=KEY_SET_TIMEOUT_S,
        max_bytes=MAX_KEY_SET_BYTES,
    )


def _headers(access: Access) -> dict[str, str]:
    caller = access.caller
    headers = {"X-Request-ID": caller.request_id}
    return headers if caller.traceparent is None else {**headers, "traceparent": caller.traceparent}
