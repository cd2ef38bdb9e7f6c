"""Ops with NVIDIA's names and signatures; each file holds the plain `_ref` and the fast version."""
