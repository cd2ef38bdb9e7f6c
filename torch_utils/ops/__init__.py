"""Ops with NVIDIA's names and signatures. Each file holds the plain `_ref` and whatever is faster."""
