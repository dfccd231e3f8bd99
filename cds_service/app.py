"""The WSGI application of the CDS service."""

from __future__ import annotations

from flask import Flask

from cds_service import views
from cds_service.desk import Desk


def create_app(desk: Desk, *, max_body_bytes: int) -> Flask:
    """The app that answers discovery and hook calls for `desk`; bodies over `max_body_bytes` are refused unread."""
    app = Flask("cds_service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    app.extensions["bedside.desk"] = desk
    app.register_blueprint(views.blueprint)
    return app
