"""HealthChain's CDS Hooks service, at its fastest, for a side-by-side: run by an interpreter that has it, not by ours.

    python3.11 -m venv peer && peer/bin/pip install healthchain
    python -m benchmarks --peer-python peer/bin/python

Its best: plain dicts instead of its typed FHIR resources, the collector frozen. The handler takes the newest value under each
code and answers one fixed card: no model, no explanation, no record. Imports nothing of this project.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

CARD = {"summary": "10-year risk: 7 %", "indicator": "info", "source": {"label": "peer"}, "detail": "x" * 2048}


def newest_values(prefetch: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Code to the time and number of its newest Observation."""
    newest: dict[str, tuple[str, float]] = {}
    for document in prefetch.values():
        for entry in document.get("entry", ()):
            resource = entry["resource"]
            value = resource.get("valueQuantity", {}).get("value")
            if resource["resourceType"] != "Observation" or value is None:
                continue
            code, at = resource["code"]["coding"][0]["code"], resource["effectiveDateTime"]
            if code not in newest or newest[code][0] < at:
                newest[code] = at, value
    return newest


def build(service_ids: list[str]) -> Any:
    """The ASGI application, with one patient-view service per id."""
    from healthchain.gateway import CDSHooksService, HealthChainAPI
    from healthchain.gateway.cds import CDSHooksConfig
    from healthchain.models import CDSRequest, CDSResponse

    service = CDSHooksService(config=CDSHooksConfig(base_path="", discovery_path="/cds-services"))

    def handle(request: CDSRequest) -> CDSResponse:
        newest_values(request.prefetch)
        return CDSResponse(cards=[CARD])

    for service_id in service_ids:
        service.hook("patient-view", id=service_id)(handle)
    app = HealthChainAPI()
    app.register_service(service, path="")
    gc.collect()
    gc.freeze()
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(build(sys.argv[2:]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
