"""`bedside model evaluate`: a site validates a model on its own patients, as FHIR, with the outcomes in a table."""
