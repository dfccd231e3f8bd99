"""Readers from wire structs to record entries, one module per FHIR resource."""
