"""What of the checklist no test here can show, with the reason; an item may be tested in its other parts."""

from __future__ import annotations

NOT_TESTED: dict[str, str] = {
    "1": "TLS ends at the site's proxy; the service itself listens to it in plain HTTP",
    "8": "whether a description reads well as Markdown is for people",
    "13": "an open discovery document is a setting, tested with the views",
    "20": "`context` of DSTU2 and STU3 is taken as it comes; the models read R4 only and say so in discovery",
    "21": "speed is measured by `make bench` (docs/measurements.md): a busy machine would fail a test of it",
    "24": "the models advise on the patient, not on an order; of the drafts they only look at what is ordered already",
    "27": "no hook of a vendor is served, so there is none to name",
    "53": "no icon is sent, so none can be 100 by 100 pixels",
    "55": "no suggestion is ever marked as recommended; the rule stands in the validator",
    "57": "`update` and `delete` are never sent; their rules stand in the validator",
    "72": "that ignored cards send nothing is the client's side",
    "73": "mutual TLS ends at the proxy; that its header is believed from named proxies alone is tested with the HTTP layer",
    "86": "which web origins a site trusts is the site's to say",
    "88": "how long a body may take is for the proxy to bound, as the guide says; the server below has no limit for it",
    "91": "what a service and a client agree on beforehand is on paper; docs/connect-an-ehr.md has the questions",
}
