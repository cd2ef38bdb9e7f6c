"""Run the CUDA kernels' own source text on the CPU: compiled as C++, the grid as a loop."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from torch_utils import custom_ops

COMPILER = shutil.which('g++') or shutil.which('clang++')
_FLAGS = [
    '-std=c++17',
    '-O1',
    '-shared',
    '-fPIC',
    '-w',
    '-x',
    'c++',
    '-fsanitize=undefined',
    '-fno-sanitize-recover=all',
    '-fno-sanitize=alignment',
]
_LAUNCH = """
extern "C" int launch(unsigned gx, unsigned gy, unsigned gz, unsigned threads, void** args) {{
    return run(&{name}, {{gx, gy, gz}}, threads, args);
}}
"""


@functools.cache
def get_kernel(source: str, name: str, device_index: int | None) -> custom_ops.Kernel:
    """In place of `custom_ops.get_kernel`; addresses are those of CPU tensors."""
    header = Path(__file__).with_name('host_kernels.h').read_text()
    text = header + custom_ops.source_text(source) + _LAUNCH.format(name=name)
    library = (
        Path(tempfile.gettempdir())
        / f'host-kernel-{hashlib.sha256(text.encode()).hexdigest()[:24]}.so'
    )
    if not library.exists():
        with tempfile.NamedTemporaryFile('w', suffix='.cu', dir=library.parent) as file:
            file.write(text)
            file.flush()
            temp = Path(f'{file.name}.so')
            subprocess.run([str(COMPILER), *_FLAGS, '-o', str(temp), file.name], check=True)
            temp.replace(library)
    function = ctypes.CDLL(str(library)).launch
    function.argtypes = [ctypes.c_uint] * 4 + [ctypes.c_void_p]

    def launch(grid: tuple[int, int, int], block: int, args: list) -> None:
        assert all(0 < size <= limit for size, limit in zip(grid, (2**31 - 1, 65535, 65535)))
        assert function(*grid, block, custom_ops.pack(args)) == 0

    return launch
