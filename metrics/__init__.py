"""How good a generator is. Functions here take iterables of uint8 batches and know nothing of
training or synthesis.

`detectors` turns pictures into features as a tool of `protocols` does, `feature_stats` gathers
them. `fid`, `kid`, `precision_recall`, `inception_score`, `nearest` and `ppl` are the metrics;
`names` says what they are called and `measure` which features they take. `compare` wires all of it
together, `statistics` keeps features in files, `evaluate` is for training loops and `report` for
people.
"""
