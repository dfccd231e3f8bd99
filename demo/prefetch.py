"""Prefetch templates resolved against the EHR's own charts (CDS Hooks 2.0.1, "Prefetch Template").

Tokens are `{{context.<field>}}` and `{{userPractitionerId}}`. A template with a token that has no value here, or with
syntax that this client does not know, is dropped, as the specification lets a client do; the service then fetches for
itself. What the charts answer with an error goes out as an OperationOutcome.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.fhir_server import operation_outcome

_TOKEN = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Prefetch:
    """`data` is what goes into the request; `dropped` are the keys of templates that could not be resolved."""

    data: Mapping[str, Resource]
    dropped: tuple[str, ...]


def resolve_prefetch(
    templates: Mapping[str, str], tokens: Mapping[str, str], fetch: Callable[[str], Resource]
) -> Prefetch:
    """Every template that `tokens` resolves, fetched by `fetch(relative FHIR URL)`."""
    data: dict[str, Resource] = {}
    dropped: list[str] = []
    for key, template in templates.items():
        url = fill_template(template, tokens)
        if url is None:
            dropped.append(key)
        else:
            data[key] = _fetched(url, fetch)
    return Prefetch(data, tuple(dropped))


def fill_template(template: str, tokens: Mapping[str, str]) -> str | None:
    """The template with its tokens replaced, percent-encoded; None where one has no value."""
    if any(name not in tokens for name in _TOKEN.findall(template)):
        return None
    filled = _TOKEN.sub(lambda token: quote(tokens[token[1]], safe="/"), template)
    return None if "{{" in filled or "}}" in filled else filled


def _fetched(url: str, fetch: Callable[[str], Resource]) -> Resource:
    try:
        return fetch(url)
    except FhirRequestError as error:
        return operation_outcome(error)
