"""Public pages about the models: what each is for, what it was measured to do, and where it must not be used.

Every card links here. The pages hold no patient data and need no sign-in; they load nothing from another host and run no
script. Beside each page lie the card's own bytes, whose digest the log holds, and the same answers as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, Flask, Response, render_template

from model_artifacts.assessment import ModelIdentity
from model_artifacts.model_card import CARD_FILE
from model_artifacts.runtime import ReleasedModel
from smart_app.card_page import CardPage, render_card
from smart_app.markdown_page import render_page

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
MAX_AGE_S = 300  # a card changes with a release, and a release restarts the process

LocalSection = Callable[[ModelIdentity], str]
"""What this site measured of a model itself, in Markdown; asked for each page, as it may be measured at any time."""


def add_model_pages(app: Flask, models: Mapping[str, ReleasedModel], local: LocalSection = lambda _: "") -> None:
    """Adds `/models`, `/models/<id>` and what lies beside it to `app`; the cards are rendered here, once.

    Raises:
        ArtifactError: a model's folder has no card, or not the one that the log names.
    """
    app.register_blueprint(_blueprint(models, {name: render_card(model) for name, model in models.items()}, local))


def _blueprint(models: Mapping[str, ReleasedModel], rendered: Mapping[str, CardPage], local: LocalSection) -> Blueprint:
    pages = Blueprint(
        "models", __name__, template_folder="templates", static_folder="static", static_url_path="/models/static"
    )

    @pages.get("/models")
    def index() -> str:
        return render_template("models.html", models=tuple(models.values()))

    @pages.get("/models/<model_id>")
    def model_card(model_id: str) -> str | tuple[str, int]:
        if model_id not in models:
            return render_template("no_model.html"), 404
        model = models[model_id]
        here = render_page(local(model.identity))
        return render_template("model_card.html", manifest=model.manifest, card=rendered[model_id], here=here)

    @pages.get(f"/models/<model_id>/{CARD_FILE}")
    def released_card(model_id: str) -> Response | tuple[str, int]:
        if model_id not in models:
            return render_template("no_model.html"), 404
        return Response(rendered[model_id].card, mimetype="text/markdown")

    @pages.get("/models/<model_id>/card.json")
    def answers(model_id: str) -> Response | tuple[str, int]:
        if model_id not in models:
            return render_template("no_model.html"), 404
        return Response(rendered[model_id].answers, mimetype="application/json")

    @pages.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if response.status_code == 200:
            response.cache_control.max_age = MAX_AGE_S
        return response

    return pages
