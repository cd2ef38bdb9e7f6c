"""The kernels of `torch_utils/ops/*.cu`: compiled when first used, kept on disk, launched on
PyTorch's current stream.

Two loaders for one source text, neither of which knows torch's headers: NVRTC, which comes with
pip's torch and needs no compiler on the machine (through the `cuda-core` package), and nvcc (with
ninja) into a plain library that ctypes calls. The environment variable `STYLEGAN_OPS` chooses:
`auto` takes the first that works and says once if none does, `nvrtc`, `nvcc`, or `ref` for no
kernels at all.

Nothing is locked. What two processes compile at once is the same, each writes a file of its own,
and the last one takes the final name.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dnnlib.util import UserError, atomic_path, make_cache_dir_path

log = logging.getLogger(__name__)

Argument = Any  # of a kernel: an int for an address, ctypes numbers for the rest
# grid, threads a block, arguments
Kernel = Callable[[tuple[int, int, int], int, Sequence[Argument]], None]

SWITCH = 'STYLEGAN_OPS'
# as the kernels call them
TYPES = {
    torch.float32: 'float',
    torch.float16: 'half_t',
    torch.bfloat16: 'bfloat16_t',
    torch.float64: 'double',
}
_SOURCES = Path(__file__).parent / 'ops'
_PROBE = ('bias_act.cu', 'bias_act<float, LINEAR, 0, 4, NO_BIAS, unsigned>')
# arguments of that: no elements
_NOTHING: list[Argument] = [*[0] * 5, *[ctypes.c_longlong(0)] * 3, *[ctypes.c_float(0)] * 3]


class Unavailable(Exception):
    """Why a loader can't be used here."""


def source_text(source: str) -> str:
    """A file of `torch_utils/ops` with what it includes."""
    text = (_SOURCES / source).read_text(encoding='utf-8')
    common = (_SOURCES / 'common.cuh').read_text(encoding='utf-8').replace('#pragma once', '')
    return text.replace('#include "common.cuh"', common)


def enabled(device: torch.device) -> bool:
    """Whether kernels can be had for this device. The first call finds out, and says so where they
    can't.

    Raises:
        UserError: `STYLEGAN_OPS` asks for a loader that doesn't work here, or for one that doesn't
            exist.
    """
    return (
        device.type == 'cuda'
        and _loader(device.index if device.index is not None else torch.cuda.current_device())
        is not None
    )


@functools.cache
def get_kernel(source: str, name: str, device_index: int) -> Kernel:
    """Compile a kernel, or take it from the disk. Only for devices that are `enabled`.

    Args:
        source: such as `bias_act.cu`.
        name: the instance of the template, such as `upfirdn2d_general<half_t>`.
    """
    loader = _loader(device_index)
    assert loader is not None
    with torch.cuda.device(device_index):
        kernel = loader.load(source, name)

    def launch(grid: tuple[int, int, int], block: int, args: Sequence[Argument]) -> None:
        with torch.cuda.device(device_index):
            kernel(grid, block, args)

    return launch


@functools.cache
def _loader(device_index: int) -> 'Loader | None':
    wanted = os.environ.get(SWITCH, 'auto')
    if wanted not in ('auto', 'ref', *LOADERS):
        raise UserError(f'{SWITCH}={wanted}: one of auto, {", ".join(LOADERS)}, ref')
    reasons = []
    for name in LOADERS if wanted == 'auto' else [wanted] if wanted != 'ref' else []:
        try:
            loader = LOADERS[name](
                ''.join(map(str, torch.cuda.get_device_capability(device_index)))
            )
            with torch.cuda.device(device_index):
                # a driver may be too old for what a compiler makes
                loader.load(*_PROBE)((1, 1, 1), 1, _NOTHING)
            return loader
        # Unavailable, and what loading and launching raise, which has no common ancestor
        except Exception as error:
            reasons.append(f'{name}: {" ".join(str(error).split())[:500]}')
    if wanted in LOADERS:
        raise UserError(f'{SWITCH}={wanted}: {reasons[0]}')
    if reasons:
        log.warning(
            'warning: no CUDA kernels, so the plain PyTorch ops are used, which are slower (%s)',
            '; '.join(reasons),
        )
    return None


class Loader:
    """Turns instances of kernels into functions.

    Args:
        arch: compute capability without its point, such as `90`.
    """

    def __init__(self, arch: str) -> None:
        self.arch = arch

    def load(self, source: str, name: str) -> Kernel:
        """Raises: Unavailable."""
        raise NotImplementedError

    def cached(
        self, source: str, name: str, compiler: str, suffix: str, build: Callable[[Path], None]
    ) -> Path:
        """The file that `build` makes of an instance, made only once for the same text, name,
        architecture and compiler.
        """
        key = hashlib.sha256(
            '\n'.join([source_text(source), name, self.arch, compiler]).encode()
        ).hexdigest()
        path = make_cache_dir_path(
            'kernels', f'{name.split("<")[0]}-sm{self.arch}-{key[:24]}{suffix}'
        )
        if not path.is_file():
            try:
                with atomic_path(path) as temp:
                    build(temp)
            except UserError as error:
                raise Unavailable(f'{error}; DNNLIB_CACHE_DIR may name another folder') from error
        return path


class NvrtcLoader(Loader):
    """The compiler library inside pip's torch, by way of the `cuda-core` package."""

    def __init__(self, arch: str) -> None:
        super().__init__(arch)
        try:
            try:
                from cuda import core
            except ImportError:  # its name before 1.0
                from cuda.core import experimental as core
        except ImportError as error:
            bindings = (
                f' "cuda-bindings=={torch.version.cuda.split(".")[0]}.*"'
                if torch.version.cuda
                else ''
            )
            raise Unavailable(
                f'the package cuda-core, or what it needs, is missing (pip install '
                f'cuda-core{bindings})'
            ) from error
        self._core = core
        self._configs: dict[tuple[tuple[int, int, int], int], Any] = {}
        self._streams: dict[int, Any] = {}
        self._threads = threading.local()

    def compile(self, source: str, name: str) -> tuple[str, bytes]:
        """The symbol and the machine code (cubin) of an instance; needs no GPU."""
        try:
            options = self._core.ProgramOptions(arch=f'sm_{self.arch}', std='c++17')
            compiled = self._core.Program(source_text(source), 'c++', options).compile(
                'cubin', name_expressions=[name]
            )
        except Exception as error:  # the package has no common ancestor of what it raises
            raise Unavailable(
                f'{name} for sm_{self.arch}: {" ".join(str(error).split())[:500]}'
            ) from error
        mapping = (
            compiled.symbol_mapping if hasattr(compiled, 'symbol_mapping') else compiled._sym_map
        )
        symbol = mapping[name]
        return symbol.decode() if isinstance(symbol, bytes) else symbol, bytes(compiled.code)

    def load(self, source: str, name: str) -> Kernel:
        def build(path: Path) -> None:
            symbol, code = self.compile(source, name)
            path.write_bytes(symbol.encode() + b'\n' + code)

        symbol, _, code = (
            self.cached(source, name, self._version(), '.cubin', build)
            .read_bytes()
            .partition(b'\n')
        )
        core = self._core
        self._enter_context()
        kernel = core.ObjectCode.from_cubin(code).get_kernel(symbol.decode())

        def launch(grid: tuple[int, int, int], block: int, args: Sequence[Argument]) -> None:
            self._enter_context()
            config = self._configs.get((grid, block))
            if config is None:
                config = self._configs[grid, block] = core.LaunchConfig(grid=grid, block=block)
            core.launch(self._stream(), config, kernel, *args)

        return launch

    def _enter_context(self) -> None:
        """Give this thread the device's context, which a launch by the driver's interface doesn't:
        autograd's threads begin without.
        """
        if not hasattr(self._threads, 'entered'):
            self._core.Device(torch.cuda.current_device()).set_current()
            self._threads.entered = True

    def _stream(self) -> Any:
        handle = torch.cuda.current_stream().cuda_stream
        stream = self._streams.get(handle)
        if stream is None:
            stream = self._streams[handle] = self._core.Stream.from_handle(handle)
        return stream

    @staticmethod
    def _version() -> str:
        from cuda.bindings import nvrtc

        return f'nvrtc {nvrtc.nvrtcVersion()[1:]}'


# What surrounds an instance in a library of its own. `args` holds the address of each argument, as
# CUDA's launch functions want it.
_LIBRARY = """
#if defined(__HIP__)
#include <hip/hip_runtime.h>
#define cudaLaunchKernel hipLaunchKernel
#define cudaStream_t hipStream_t
#endif
#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED
#endif
{text}
extern "C" EXPORTED int launch(
    unsigned gx, unsigned gy, unsigned gz, unsigned threads, void** args, void* stream) {{
    const void* kernel = (const void*)&{name};
    dim3 grid(gx, gy, gz);
    return (int)cudaLaunchKernel(kernel, grid, dim3(threads), args, 0, (cudaStream_t)stream);
}}
"""


class NvccLoader(Loader):
    """nvcc (hipcc where torch is built for ROCm), run by ninja, and ctypes."""

    def __init__(self, arch: str) -> None:
        super().__init__(arch)
        self._compiler = self._find_compiler()
        self._ninja = shutil.which(
            'ninja',
            path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')]),
        )
        if self._ninja is None:
            raise Unavailable('ninja is missing (pip install ninja)')

    def load(self, source: str, name: str) -> Kernel:
        version = subprocess.run(
            [self._compiler, '--version'], capture_output=True, text=True, check=False
        ).stdout
        path = self.cached(
            source,
            name,
            version,
            '.dll' if os.name == 'nt' else '.so',
            lambda temp: self.compile(source, name, temp),
        )
        function = ctypes.CDLL(str(path)).launch
        function.argtypes = [ctypes.c_uint] * 4 + [ctypes.c_void_p] * 2

        def launch(grid: tuple[int, int, int], block: int, args: Sequence[Argument]) -> None:
            error = function(*grid, block, pack(args), torch.cuda.current_stream().cuda_stream)
            if error != 0:
                raise RuntimeError(
                    f'{name}: CUDA error {error} at its launch with grid {grid} and {block} threads'
                )

        return launch

    def compile(self, source: str, name: str, library: Path) -> None:
        """Write the library of an instance; needs no GPU."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, 'kernel.cu').write_text(
                _LIBRARY.format(text=source_text(source), name=name), encoding='utf-8'
            )
            if torch.version.hip is not None:
                flags = '-x hip -shared -fPIC -O3 -std=c++17'
            else:
                target = f'arch=compute_{self.arch},code=sm_{self.arch}'
                flags = f'-shared -O3 -std=c++17 -cudart shared -gencode {target}'
                flags += '' if os.name == 'nt' else ' -Xcompiler -fPIC'
            rule = f'rule library\n  command = "{self._compiler}" {flags} -o $out $in\n'
            Path(folder, 'build.ninja').write_text(
                f'{rule}build library.so: library kernel.cu\n', encoding='utf-8'
            )
            result = subprocess.run(
                [str(self._ninja), '-C', folder], capture_output=True, text=True, check=False
            )
            if result.returncode != 0:
                raise Unavailable(
                    f'{self._compiler} failed: '
                    f'{" ".join((result.stdout + result.stderr).split())[-500:]}'
                )
            shutil.copyfile(Path(folder, 'library.so'), library)

    @staticmethod
    def _find_compiler() -> str:
        hip = torch.version.hip is not None
        tool, home = (
            ('hipcc', os.environ.get('ROCM_HOME'))
            if hip
            else ('nvcc', os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH'))
        )
        places = [str(Path(home) / 'bin')] if home else []
        found = shutil.which(
            tool,
            path=os.pathsep.join(
                [*places, os.environ.get('PATH', ''), '/usr/local/cuda/bin', '/opt/rocm/bin']
            ),
        )
        if found is None:
            raise Unavailable(f'{tool} is not on the PATH')
        return found


def pack(args: Sequence[Argument]) -> Any:
    """The addresses of the arguments, as an array that keeps them alive."""
    values = [ctypes.c_void_p(value) if isinstance(value, int) else value for value in args]
    array = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
    array.values = values  # type: ignore[attr-defined]
    return array


LOADERS: dict[str, type[Loader]] = {'nvrtc': NvrtcLoader, 'nvcc': NvccLoader}
