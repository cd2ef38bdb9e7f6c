"""Metrics: how good a generator is. Nothing here knows of training or synthesis.

To add a metric, write one file beside `kid.py` and list its class in `KINDS` of `metric.py`.

The way of a snapshot's FID: `compare` (the loop over metrics, also for train.py) →
`feature_sources` (pictures of a generator, a folder, or statistics) → synthesis' sampling, which is
handed in → `detectors` (pictures to features) → `features` (mean and covariance) → `fid`. Beside
it: `metric` and `kind` (names, what each needs), `protocols` (resizing), `image_set` and
`feature_cache` (real pictures), `report` (for people and programs).
"""
