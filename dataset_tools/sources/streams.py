"""Pictures that come one after the other out of one file: the frames of a video, the values of an
LMDB.
"""

import importlib.util
import multiprocessing
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from dnnlib import UserError, printable
from dnnlib.image_archive import MAX_PIXELS

from .containers import MAX_FILE, Skipped

VIDEO_SUFFIXES = frozenset(
    {
        '.mp4',
        '.mov',
        '.m4v',
        '.mkv',
        '.webm',
        '.avi',
        '.mpg',
        '.mpeg',
        '.ogv',
        '.wmv',
        '.flv',
        '.3gp',
    }
)
# none that opens further files, as playlists do
_DEMUXERS = 'mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,ogg,asf,flv'
_MAX_SIDE = 16384
_LMDB_ENTRY = 8  # bytes of an entry besides its key and value
_PATIENCE = 60  # seconds for one value of an LMDB
# of DVDs and tapes they are oblong
_SQUARE_PIXELS = "scale=w='iw*if(between(sar,1,4),sar,1)':h='ih*if(between(sar,0.25,1),1/sar,1)'"


def is_lmdb(path: Path) -> bool:
    """Whether a path is an LMDB, as LSUN's are: a folder with `data.mdb`."""
    return (path / 'data.mdb').is_file()


def open_lmdb(path: Path) -> tuple[int, Iterator[tuple[str, bytes] | Skipped]]:
    """How many values there are, and their keys, as text, with them, in the order of the keys.

    Another process reads, for a file that is damaged or cut short, as downloads are, ends a process
    that maps it into memory.

    Raises:
        UserError: it can't be read, or the package is missing.
    """
    if importlib.util.find_spec('lmdb') is None:
        raise UserError(f'--source {path}: an LMDB needs the package lmdb: pip install lmdb')
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_lmdb, args=(path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        total = ours.recv() if ours.poll(_PATIENCE) else f'no answer in {_PATIENCE} seconds'
    except (EOFError, OSError):
        total = 'it is damaged'
    if isinstance(total, str):
        process.kill()
        raise UserError(f'--source {path}: its LMDB cannot be read: {total}')
    return total, _receive_lmdb(path, total, ours, process)


def _receive_lmdb(
    path: Path, total: int, connection: Connection, process: SpawnProcess
) -> Iterator[tuple[str, bytes] | Skipped]:
    count = 0
    try:
        while not isinstance(
            item := connection.recv() if connection.poll(_PATIENCE) else 'it takes too long',
            str | None,
        ):
            yield item
            count += 1
        if item is not None:
            yield Skipped(
                path.name, 'damaged', f'the LMDB breaks off after {count} of {total} values: {item}'
            )
    except (EOFError, OSError):  # the latter in the middle of a value
        yield Skipped(
            path.name,
            'damaged',
            f'the LMDB breaks off after {count} of {total} values: it is damaged, or cut short',
        )
    finally:
        connection.close()
        process.kill()
        process.join()


def _send_lmdb(path: Path, connection: Connection) -> None:
    """Send the number of values, or what is wrong; each key and value; None at the end."""
    # Ctrl-C reaches every process of a terminal; the parent deals with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import lmdb

    try:
        with (
            lmdb.open(str(path), readonly=True, lock=False, readahead=False) as database,
            database.begin(buffers=True) as transaction,
        ):
            total, left = int(database.stat()['entries']), (path / 'data.mdb').stat().st_size
            if total * _LMDB_ENTRY > left:
                raise ValueError(f'it says that it has {total} values, for which it is too small')
            connection.send(total)
            for count, (key, value) in enumerate(transaction.cursor()):
                left -= len(key) + len(value) + _LMDB_ENTRY
                if count >= total or left < 0:
                    raise ValueError('it has more values than it says, or gives some of them twice')
                name = bytes(key).decode('utf-8', 'surrogateescape')
                too_large = Skipped(
                    f'{path.name}/{name}', 'too large', f'{len(value) / 1e6:.0f} MB'
                )
                connection.send((name, bytes(value)) if len(value) <= MAX_FILE else too_large)
            connection.send(None)
    except BrokenPipeError:  # no more are wanted
        pass
    except Exception as error:  # damaged files make it raise more than its own errors
        connection.send(str(error) or type(error).__name__)


def read_video(path: Path, every: int) -> Iterator[tuple[str, bytes] | Skipped]:
    """Every so many frames of a video, upright, with square pixels, the first being number 0; names
    are numbers, data are picture files.

    Raises:
        UserError: ffmpeg can't be run.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [
        get_ffmpeg_exe(),
        '-nostdin',
        '-v',
        'error',
        '-protocol_whitelist',
        'file',
        '-format_whitelist',
        _DEMUXERS,
        '-max_pixels',
        str(MAX_PIXELS),
        '-i',
        f'file:{path}',
        '-map',
        '0:v:0',
        '-vf',
        f'select=not(mod(n\\,{every})),{_SQUARE_PIXELS}',
        '-fps_mode',
        'passthrough',
        '-f',
        'image2pipe',
        '-c:v',
        'ppm',
        '-pix_fmt',
        'rgb24',
        '-',
    ]
    count = 0
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
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
