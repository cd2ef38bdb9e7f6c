"""How good a generator is. Functions here take iterables of uint8 batches and know nothing of training or synthesis.

`detectors` turns pictures into features, `feature_stats` features into a mean and a covariance, `fid` two of those
into a distance, `evaluate` wires them together under the names that people give to `--metrics`.
"""
