"""Read the frames of a video with ffmpeg."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from dnnlib import UserError, printable
from dnnlib.containers import Skipped
from dnnlib.image_decoding import MAX_PIXELS

VIDEO_SUFFIXES = frozenset(
    '.mp4 .mov .m4v .mkv .webm .avi .mpg .mpeg .ogv .wmv .flv .3gp'.split()  # noqa: SIM905 (as in image_archive)
)
# none that opens further files, as playlists do
_DEMUXERS = 'mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,ogg,asf,flv'
_MAX_SIDE = 16384
# of DVDs and tapes they are oblong
_SQUARE_PIXELS = "scale=w='iw*if(between(sar,1,4),sar,1)':h='ih*if(between(sar,0.25,1),1/sar,1)'"


def read_video(path: Path, every: int) -> Iterator[tuple[str, bytes] | Skipped]:
    """Yield every nth frame of a video, upright, with square pixels, the first being number 0;
    names are numbers, data are picture files.

    Raises:
        UserError: ffmpeg can't be run.
    """
    count = 0
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(_command(path, every), stdout=subprocess.PIPE, stderr=said)
        except OSError as error:
            raise UserError(f'--source {path}: ffmpeg cannot be run: {error}') from error
        try:
            assert process.stdout is not None
            while (frame := _read_ppm(process.stdout.read)) is not None:
                yield f'{count * every:06d}', frame
                count += 1
            failed = process.wait() != 0
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        said.seek(0)
        errors = said.read(10_000).decode('utf-8', 'replace').strip().splitlines()
    if failed or errors or count == 0:
        reason = (
            printable(errors[-1])
            if errors
            else 'there is no picture in it, or one of too many pixels'
        )
        yield Skipped(path.name, 'damaged', f'after {count} frames ffmpeg says: {reason}')


def _command(path: Path, every: int) -> list[str]:
    from imageio_ffmpeg import get_ffmpeg_exe

    options = {
        '-v': 'error',
        '-protocol_whitelist': 'file',
        '-format_whitelist': _DEMUXERS,
        '-max_pixels': str(MAX_PIXELS),
        '-i': f'file:{path}',
        '-map': '0:v:0',
        '-vf': f'select=not(mod(n\\,{every})),{_SQUARE_PIXELS}',
        '-fps_mode': 'passthrough',
        '-f': 'image2pipe',
        '-c:v': 'ppm',
        '-pix_fmt': 'rgb24',
    }
    return [get_ffmpeg_exe(), '-nostdin', *(word for pair in options.items() for word in pair), '-']


def _read_ppm(read: Callable[[int], bytes]) -> bytes | None:
    head = b''
    while head.count(b'\n') < 3:
        letter = read(1)
        if not letter or len(head) > 100:
            return None
        head += letter
    try:
        width, height = map(int, head.split()[1:3])
    except ValueError:
        return None
    if not (
        head.startswith(b'P6\n')
        and 0 < width <= _MAX_SIDE
        and 0 < height <= _MAX_SIDE
        and width * height <= MAX_PIXELS
    ):
        return None
    pixels = read(3 * width * height)
    return head + pixels if len(pixels) == 3 * width * height else None
