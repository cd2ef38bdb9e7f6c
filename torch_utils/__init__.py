"""Tensor tools that know nothing of StyleGAN: custom ops, persistence of classes, statistics,
devices.
"""
