"""The pages of the pocket EHR: the list of patients, and one patient's chart with the cards as an EHR shows them.

Opening a chart fires patient-view. Pages carry no script and ask no other host for anything; the
Content-Security-Policy holds them to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from flask import Blueprint, Response, abort, render_template, request
from markupsafe import Markup

from demo.cards import INDICATORS
from demo.chart_view import view_banner, view_chart
from demo.client import CdsCall, CdsClient, Via
from demo.errors import CdsServiceError
from demo.markdown import is_web_link, render_html
from demo.store import ChartStore

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages(store: ChartStore, client: CdsClient, clock: Callable[[], datetime]) -> Blueprint:
    views = Blueprint("pages", __name__)

    @views.get("/")
    def patients() -> str:
        now = clock()
        rows = [(chart.patient_id, view_banner(chart, now), chart.note) for chart in store.charts]
        return render_template("patients.html", rows=rows)

    @views.get("/patients/<patient_id>")
    def patient(patient_id: str) -> str:
        chart = store.chart(patient_id)
        if chart is None:
            abort(404)
        via = Via.FHIR if request.args.get("via") == Via.FHIR else Via.PREFETCH
        calls: tuple[CdsCall, ...] = ()
        failure = None
        try:
            calls = client.patient_view(chart, via)
        except CdsServiceError as exc:
            failure = str(exc)
        return render_template("patient.html", view=view_chart(chart, clock()), via=via, calls=calls, failure=failure)

    @views.app_errorhandler(404)
    def not_found(_: Exception) -> tuple[str, int]:
        return render_template("not_found.html"), 404

    @views.after_request
    def protect(answer: Response) -> Response:
        return with_page_headers(answer)

    views.add_app_template_filter(_markdown, "markdown")
    views.add_app_template_filter(_pretty, "pretty")
    views.add_app_template_filter(INDICATORS.__getitem__, "indicator_word")
    views.add_app_template_test(is_web_link, "web_link")
    return views


def with_page_headers(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def _markdown(text: str) -> Markup:
    return Markup(render_html(text))  # noqa: S704 - every run of text was escaped there


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
