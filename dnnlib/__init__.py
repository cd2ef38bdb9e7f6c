"""Base package: imports neither torch nor another package of this project.

`EasyDict`, `Logger`, `format_time` and `make_cache_dir_path` keep NVIDIA's names, because snapshots
name `dnnlib.util.EasyDict` and because people's own scripts import them.
"""

from . import interrupts  # noqa: F401, I001 (first: for the imports that follow)

import os

from .util import (
    EasyDict,
    Logger,
    UserError,
    atomic_folder,
    atomic_path,
    escaped,
    format_time,
    make_cache_dir_path,
    make_output_folder,
    printable,
    require_other_file,
    require_outputs_beside_inputs,
)

__all__ = [
    'EasyDict',
    'Logger',
    'UserError',
    'atomic_folder',
    'atomic_path',
    'escaped',
    'format_time',
    'make_cache_dir_path',
    'make_output_folder',
    'printable',
    'require_other_file',
    'require_outputs_beside_inputs',
]

# PyTorch's OpenMP library reads these when it is loaded, so they are set here, which every script
# imports before torch. Threads that spin while they wait for each other slow training 4 to 10 times
# on a CPU that other programs use, too.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('KMP_BLOCKTIME', '0')
