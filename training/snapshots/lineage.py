"""Lineage: which snapshots a snapshot descends from."""

import re
from pathlib import Path
from typing import Any

from .load_save import Networks

MAX_NIMG = 1e15  # pictures seen


def ancestry(*parents: Networks) -> list[dict[str, Any]]:
    """Return the ancestors that a network made from these snapshots remembers.

    Each is a dict of `name`, `sha256`, `kimg` and `preset` (None where unknown): the snapshots
    themselves, then their own ancestors.
    """
    found: dict[str, dict[str, Any]] = {}
    for parent in parents:
        if 'sha256' in parent.meta:
            name, own = Path(str(parent.meta.get('path'))).name, parent.meta.get('toonify')
            own = own if isinstance(own, dict) else {}
            sha256, preset = parent.meta['sha256'], own.get('preset')
            found[sha256] = {
                'name': name,
                'sha256': sha256,
                'kimg': kimg_of(name, own),
                'preset': preset,
            }
        found.update({row['sha256']: row for row in _remembered(parent)})
    return list(found.values())


def kimg_of(name: str, own: dict[str, Any]) -> float | None:
    """Return a snapshot's counter in kimg: from its metadata, else from its file name."""
    seen = own.get('cur_nimg')
    if isinstance(seen, (int, float)) and 0 <= seen < MAX_NIMG:
        return seen / 1000
    match = re.fullmatch(r'network-snapshot-([0-9]{1,12}(?:\.[0-9]{3})?)\.\w+', name)
    return float(match[1]) if match else None


def is_descendant(networks: Networks, other: Networks) -> bool:
    """Return whether a snapshot is known to be made from another one, or is the same file."""
    return other.meta.get('sha256') in {row['sha256'] for row in ancestry(networks)}


def _remembered(networks: Networks) -> list[dict[str, Any]]:
    toonify = networks.meta.get('toonify')
    rows = toonify.get('parents') if isinstance(toonify, dict) else None
    return (
        [row for row in rows if isinstance(row, dict) and isinstance(row.get('sha256'), str)]
        if isinstance(rows, list)
        else []
    )
