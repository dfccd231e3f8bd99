"""Public pages about the models: what each is for, what it was measured to do, and where it must not be used.

Every card links here. The pages hold no patient data and need no sign-in; they load nothing from another host and run no
script.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Flask, Response, render_template

from model_artifacts.errors import ArtifactError
from model_artifacts.model_card import CARD_FILE
from model_artifacts.runtime import ReleasedModel
from smart_app.markdown_page import Page, render_page

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


def add_model_pages(app: Flask, models: Mapping[str, ReleasedModel]) -> None:
    """Adds `/models` and `/models/<id>` to `app`; the cards are rendered here, once.

    Raises:
        ArtifactError: a model's folder has no card.
    """
    app.register_blueprint(_blueprint(models, {name: _rendered(model) for name, model in models.items()}))


def _rendered(model: ReleasedModel) -> Page:
    try:
        return render_page((model.folder / CARD_FILE).read_text(encoding="utf-8"))
    except OSError as exc:
        message = f"file {CARD_FILE} of model {model.manifest.id}: {exc.strerror}"
        raise ArtifactError(message, model_id=model.manifest.id) from exc


def _blueprint(models: Mapping[str, ReleasedModel], rendered: Mapping[str, Page]) -> Blueprint:
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
        return render_template("model_card.html", manifest=models[model_id].manifest, page=rendered[model_id])

    @pages.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if response.status_code == 200:
            response.cache_control.max_age = MAX_AGE_S
        return response

    return pages
