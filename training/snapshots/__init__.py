"""Snapshots: load networks from a file of any format, save them, compare and trace them."""

from .describe import compare_networks, describe_networks, settings_of
from .lineage import ancestry, is_descendant
from .load_save import WRITERS, Networks, in_half, load_networks, save_networks
from .published import NAMED_SOURCES, is_elsewhere, names_a_network

__all__ = [
    'NAMED_SOURCES',
    'WRITERS',
    'Networks',
    'ancestry',
    'compare_networks',
    'describe_networks',
    'in_half',
    'is_descendant',
    'is_elsewhere',
    'load_networks',
    'names_a_network',
    'save_networks',
    'settings_of',
]
