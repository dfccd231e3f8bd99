"""Public pages about the models: what each is for, what it was measured to do, and where it must not be used.

Every card links here. The pages hold no patient data and need no sign-in; they load nothing from another host.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Flask, Response, abort, render_template
from markdown_it import MarkdownIt

from model_artifacts.runtime import ReleasedModel

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


def add_model_pages(app: Flask, models: Mapping[str, ReleasedModel]) -> None:
    """Adds `/models` and `/models/<id>` to `app`."""
    pages = Blueprint(
        "models", __name__, template_folder="templates", static_folder="static", static_url_path="/models/static"
    )

    @pages.get("/models")
    def index() -> str:
        return render_template("models.html", manifests=[model.manifest for model in models.values()])

    @pages.get("/models/<model_id>")
    def model_card(model_id: str) -> str:
        model = models.get(model_id)
        if model is None or not (model.folder / "MODEL_CARD.md").is_file():
            abort(404)
        text = (model.folder / "MODEL_CARD.md").read_text("utf-8")
        return render_template("model_card.html", manifest=model.manifest, card=_markdown.render(text))

    @pages.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.register_blueprint(pages)
