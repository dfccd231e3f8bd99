"""Who stays in hospital for more than two weeks, estimated a day after coming to intensive care."""
