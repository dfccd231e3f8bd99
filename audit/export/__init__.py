"""The log in formats that others read: for auditors, compliance officers, FHIR servers and security monitoring.

One module for each format. A format is a pure function from records of the log (`records`) to text or resources; how it gets
to its destination is another module's concern (`push`, `syslog`, `otlp`), and how far it got is the cursor's (`cursor`). No
format opens a payload, so none can carry patient data; each record carries origin, index and leaf hash, so that a copy can
be proven against the log (`copies`). Another format is one such module and a line in `audit/commands/exporting.py`.
"""
