"""The base of the house: nothing here imports torch or another package of this project.

`EasyDict`, `Logger`, `format_time` and `make_cache_dir_path` keep NVIDIA's names, because snapshots name
`dnnlib.util.EasyDict` and because people's own scripts import them.
"""

from .util import EasyDict, Logger, UserError, atomic_folder, atomic_path, format_time, make_cache_dir_path, printable

__all__ = ['EasyDict', 'Logger', 'UserError', 'atomic_folder', 'atomic_path', 'format_time', 'make_cache_dir_path', 'printable']
