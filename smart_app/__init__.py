"""The pages behind a card. Today: each model's public card; nothing here shows a patient's data."""
