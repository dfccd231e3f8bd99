"""The CDS Hooks service: a hook request in, cards and a log receipt out.

One request's whole way is `pipeline.answer`. Everything around it only prepares or carries: `request` reads the bytes,
`gather` collects the record, `cards` and `response` word the answer, `decision` writes the log's entry, `views` speaks HTTP.
"""
