"""The parts of `generate.py`: `request` (its options), `scenes` (latents), `writing` (files)."""
