"""The floor: the least a Python CDS service can do with the same call under the same server.

A bare Flask app that decodes the prefetch with msgspec structs of the fields a model would read, and answers one card of
fixed size. It judges, explains and records nothing, so whatever does lies above it, and is told as a multiple of it.
One thread, as it never waits for anything and more would only get in each other's way.

Run: `python -m benchmarks.floor PORT`.
"""

from __future__ import annotations

import gc
import sys

import msgspec
from flask import Flask, Response, request

from bedside.serving import make_server


class Coding(msgspec.Struct, frozen=True, gc=False):
    system: str | None = None
    code: str | None = None


class Concept(msgspec.Struct, frozen=True, gc=False):
    coding: tuple[Coding, ...] = ()


class Quantity(msgspec.Struct, frozen=True, gc=False):
    value: float | None = None
    unit: str | None = None


class Component(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    code: Concept | None = None
    value_quantity: Quantity | None = None


class Resource(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str
    id: str | None = None
    status: str | None = None
    code: Concept | None = None
    effective_date_time: str | None = None
    value_quantity: Quantity | None = None
    component: tuple[Component, ...] = ()
    gender: str | None = None
    birth_date: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    resource: Resource


class Document(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_type: str
    entry: tuple[Entry, ...] = ()


class Call(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    hook: str
    hook_instance: str
    context: dict[str, str]
    prefetch: dict[str, Document]


_decoder = msgspec.json.Decoder(Call)
_CARD = {
    "uuid": "5d3b1d0e-7c5e-4f43-9a51-5f5f5b0c9a11",
    "summary": "10-year risk: 7 %",
    "indicator": "info",
    "source": {"label": "The floor", "url": "https://example.org"},
    "detail": "x" * 2048,
}


def build_floor() -> Flask:
    """The WSGI application."""
    app = Flask("floor", static_folder=None)

    @app.get("/cds-services")
    def discover() -> Response:
        return Response(msgspec.json.encode({"services": []}), mimetype="application/json")

    @app.post("/cds-services/<service_id>")
    def call(service_id: str) -> Response:
        decoded = _decoder.decode(request.get_data(cache=False))
        found = sum(len(document.entry) for document in decoded.prefetch.values())
        body = msgspec.json.encode({"cards": [_CARD], "extension": {"service": service_id, "found": found}})
        return Response(body, mimetype="application/json")

    gc.collect()
    gc.freeze()
    return app


if __name__ == "__main__":
    make_server("benchmarks.floor:build_floor", host="127.0.0.1", port=int(sys.argv[1]), workers=1, threads=1).serve()
