"""`bedside model drift`: whether models still see what they were made for, from the log's counts and a site's outcomes.

`sketches` reads and judges the counts, `alarms` records what came of it, `outcomes` joins outcomes to predictions, `words` and
`verb` are the command line, `watching` is the service's own look after each sketch. The rules are in
`model_artifacts.sketch_judgement` and `model_artifacts.calibration_drift`, and know nothing of the log.
"""
