"""Presets as YAML files; `training.config` reads them."""
