"""Readmission within 30 days of a person with diabetes who leaves hospital, asked while the discharge is prepared."""
