"""Everything that a training run is."""
