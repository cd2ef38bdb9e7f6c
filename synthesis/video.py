"""Write video files frame by frame: H.264 in .mp4, or .gif."""

import contextlib
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import GifImagePlugin, Image

from dnnlib import UserError, atomic_path

DEFAULT_QUALITY = 67
MAX_GIF_FPS = 50  # browsers slow a GIF down that wants more

Add = Callable[[np.ndarray], None]


class VideoWriter:
    """Writes frames one by one; the file appears under its name when the `with` block ends well.

    Args:
        path: ends in .mp4 (H.264, yuv420p, BT.709: what players and browsers show) or .gif (256
            colours a frame, plays for ever).
        size: width and height of the frames in pixels. H.264 needs even numbers: of an odd width or
            height the last column or row is repeated.
        fps: frames a second, over 0; of a GIF at most 50.
        quality: 1…100, of .mp4 only: x264's CRF falls from 50 to 1 over it. The default is CRF 17.

    Raises:
        UserError: another suffix, an fps or quality that can't be, no ffmpeg, or the file can't be
            written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float = 30.0,
        quality: int = DEFAULT_QUALITY,
    ) -> None:
        check_video(path, fps, quality)
        self._path = Path(path)
        self._size = size
        self._fps = Fraction(fps).limit_denominator(1001)
        self._quality = quality
        self._count = 0

    def __enter__(self) -> 'VideoWriter':
        with contextlib.ExitStack() as stack:
            temp = stack.enter_context(atomic_path(self._path))
            if self._path.suffix.lower() == '.gif':
                self._add = stack.enter_context(_gif(temp, self._fps))
            else:
                self._add = stack.enter_context(
                    _h264(temp, self._path, self._size, self._fps, self._quality)
                )
            self._stack = stack.pop_all()
        return self

    def add(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: uint8 `[H, W, C]` of the writer's size, C of 1 or 3.
        """
        width, height = self._size
        if frame.dtype != np.uint8 or frame.shape not in ((height, width, 1), (height, width, 3)):
            raise ValueError(
                f'a frame is uint8 [{height}, {width}, 1 or 3], not {frame.dtype} '
                f'{list(frame.shape)}'
            )
        self._add(np.broadcast_to(frame, [height, width, 3]))
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # hands what is raised here to the encoder and to atomic_path, which clean up
        with self._stack:
            if error is not None:
                raise error
            if self._count == 0:
                raise ValueError(f'{self._path}: a video without frames')


def check_video(path: str | os.PathLike[str], fps: float, quality: int = DEFAULT_QUALITY) -> None:
    """Refuse what `VideoWriter` can't write, before anything has been computed.

    Raises:
        UserError: see `VideoWriter`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in ('.mp4', '.gif'):
        raise UserError(f'{path}: a video ends in .mp4 or .gif')
    if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
        raise UserError(
            f'{path}: {fps:g} frames a second cannot be written; 24, 30 or 60 are usual'
        )
    if suffix == '.gif' and fps > MAX_GIF_FPS:
        raise UserError(
            f'{path}: a GIF shows at most {MAX_GIF_FPS} frames a second, not {fps:g}; '
            f'choose fewer, or .mp4'
        )
    if not 1 <= quality <= 100:
        raise UserError(f'{path}: a quality is 1…100, not {quality}')
    if suffix == '.mp4':
        _ffmpeg()


def _ffmpeg() -> str:
    """Find the program, which imageio-ffmpeg brings along."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except ImportError:
        raise UserError(
            'an .mp4 needs the package imageio-ffmpeg: pip install imageio-ffmpeg; or write a .gif'
        ) from None
    except RuntimeError as error:
        raise UserError(f'an .mp4 needs ffmpeg: {error}') from error


def _h264_command(temp: Path, width: int, height: int, fps: Fraction, quality: int) -> list[str]:
    # 0 would be a lossless profile that many players lack
    crf = max(1, round(51 * (1 - quality / 100)))
    colours = (
        'scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int+full_chroma_inp,'
        'setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709'
    )
    options = (
        f'-y -v error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -framerate {fps} -i pipe:0 '
        f'-vf {colours} -c:v libx264 -crf {crf} -pix_fmt yuv420p -movflags +faststart'
    )
    return [_ffmpeg(), *options.split(), str(temp)]


@contextlib.contextmanager
def _h264(
    temp: Path, name: Path, size: tuple[int, int], fps: Fraction, quality: int
) -> Iterator[Add]:
    """Feed ffmpeg through a pipe. imageio-ffmpeg's own writer doesn't report that ffmpeg fails at
    the end, as on a full disk.
    """
    width, height = (length + length % 2 for length in size)
    pad = [(0, height - size[1]), (0, width - size[0]), (0, 0)]
    command = _h264_command(temp, width, height, fps, quality)
    with tempfile.TemporaryFile() as messages:  # a pipe that nobody empties would stop ffmpeg
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages
            )
        except OSError as error:
            raise UserError(
                f'cannot run {command[0]}: {error.strerror or error}; is '
                f'IMAGEIO_FFMPEG_EXE set wrongly?'
            ) from error
        assert process.stdin is not None
        pipe = process.stdin

        def fail(error: OSError | None = None) -> None:
            code = process.wait()
            messages.seek(0)
            lines = messages.read().decode(errors='replace').strip().splitlines() or [
                f'nothing, but ends with {code}'
            ]
            raise UserError(f'cannot write {name}: ffmpeg says: {"; ".join(lines[:3])}') from error

        def add(frame: np.ndarray) -> None:
            try:
                pipe.write(np.ascontiguousarray(np.pad(frame, pad, mode='edge')).data)
            except OSError as error:  # ffmpeg has ended before its input
                fail(error)

        try:
            yield add
            with contextlib.suppress(OSError):  # the exit code says it
                pipe.close()
            if process.wait() != 0:
                fail()
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                pipe.close()


@contextlib.contextmanager
def _gif(temp: Path, fps: Fraction) -> Iterator[Add]:
    """Write frame by frame, each with its own palette. Pillow's `save_all` would merge equal
    neighbours, and keep all frames in memory.
    """
    with temp.open('wb') as file:
        count = 0

        def add(frame: np.ndarray) -> None:
            nonlocal count
            picture = Image.fromarray(np.ascontiguousarray(frame))
            indexed = picture.quantize(
                palette=picture.quantize(256), dither=Image.Dither.FLOYDSTEINBERG
            )
            if count == 0:
                file.writelines(GifImagePlugin.getheader(indexed.copy(), info={'loop': 0})[0])
            # A GIF counts hundredths of a second: what one frame is too short, the next one makes
            # up for.
            start, end = (round(100 * i / fps) for i in (count, count + 1))
            file.writelines(
                GifImagePlugin.getdata(
                    indexed, duration=10 * (end - start), include_color_table=True
                )
            )
            count += 1

        yield add
        file.write(b';')
