"""The WSGI application of the CDS service."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask

from cds_service import http, views
from cds_service.desk import Desk
from cds_service.rate_limit import RateLimit


def create_app(desk: Desk, *, max_body_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> Flask:
    """The app that answers discovery, hook calls and feedback for `desk`; bodies over `max_body_bytes` are refused."""
    app = Flask("cds_service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.url_map.merge_slashes = (
        False  # `/cds-services//x` is no path of ours, nor to be redirected; leading slashes werkzeug takes for one
    )
    http.add_http(app, desk, RateLimit(desk.workers, monotonic))
    app.register_blueprint(views.blueprint)
    return app
