"""Files from the web: streamed into a cache, continued after a broken connection, checked.

Why no library: neither `torch.hub` nor `urllib` nor pooch continues a broken download, and none of
them gives up a server that sends a byte now and then (`connection.Watch`), refuses links and
redirects to http, or compares the hash at every use. A 350 MB snapshot on a bad line needs that.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import sys
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from .connection import BY_OTHER_MEANS, Say, Watch, is_url, normal_url, request
from .hashes import check_hash, file_sha256
from .util import UserError, atomic_path, make_cache_dir_path, printable

__all__ = ['fetch', 'is_url', 'open_url']

ATTEMPTS = 6
TIMEOUT = 15.0  # seconds without a byte, after which an attempt ends
CHUNK = 1 << 20
MAX_SIZE = 4 << 30  # bytes, unless the caller says otherwise
DISK_RESERVE = 256 << 20  # bytes that stay free

_NO_FOLLOW = getattr(os, 'O_NOFOLLOW', 0) | getattr(
    os, 'O_BINARY', 0
)  # Windows has the second, others the first

Progress = Callable[[int, int | None], None]
Check = Callable[[bytes], str]


class _Refused(Exception):
    """What the server sends is not what was asked for, and would not be at another attempt."""


class _OtherPart(Exception):
    """The server sends another part of a file than was asked for. All of it is asked for next."""


def fetch(url: str, **options: Any) -> Path:
    """`open_url` with a progress bar, or a line from time to time where stderr is no terminal."""
    name = printable(url.split('?')[0].rsplit('/', 1)[-1], 60)
    with tqdm(desc=f'Fetching {name}', unit='B', unit_scale=True, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def say(line: str) -> None:
            bar.write(printable(line, 500), file=sys.stderr)

        return open_url(url, progress=show, say=say, **options)


def open_url(
    url: str,
    *,
    cache_dir: Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    timeout: float = TIMEOUT,
    pause: float = 1.0,
    sha256: str = '',
    check: Check | None = None,
    max_size: int = MAX_SIZE,
) -> Path:
    """Download a file, or find it in the cache.

    The file is streamed into the cache under a temporary name and gets its own when it is whole and
    has been checked. Its SHA-256 is recorded then and compared at every later use. Several
    processes may ask for the same URL: one fetches, the others wait. A server that is too slow is
    given up; see `connection.Watch`.

    Args:
        url: http or https; https is not followed to http.
        cache_dir: None for `make_cache_dir_path('downloads')`.
        name: of the file in the cache; None for one made from the URL.
        progress: called with the bytes fetched and the total (None where the server doesn't say).
        say: called with a line from time to time where stderr is no terminal, and with one when the
            file has arrived.
        timeout: seconds without a byte, after which an attempt ends.
        pause: seconds before the second attempt; doubled before each further one.
        sha256: what the hash must begin with, in hexadecimal digits. Fewer than 64 tell a wrong
            file, but don't prove that it is the right one: eight can be forged.
        check: called with the first 512 bytes; returns what is wrong with them, or an empty text.
        max_size: bytes; more are not fetched.

    Returns:
        The path of the file in the cache.

    Raises:
        UserError: it can't be had, is not what it should be, or the copy in the cache has changed.
            The message says what to do.
    """
    address = normal_url(url)
    folder = make_cache_dir_path('downloads') if cache_dir is None else cache_dir
    path = folder / (_name_of_copy(address) if name is None else name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ('', '.part', '.part.json', '.sha256', '.lock'):
            _refuse_links(path.with_name(path.name + suffix))
        with _lock(path.with_name(path.name + '.lock')):
            if path.exists():
                _check_kept(path, url, sha256, check)
            else:
                with Watch(printable(path.name), None if sys.stderr.isatty() else say) as watch:
                    _fetch(address, path, progress, timeout, pause, sha256, check, max_size, watch)
                if say is not None:
                    recorded = path.with_name(path.name + '.sha256').read_text()
                    say(
                        f'{path}: {path.stat().st_size / 1e6:.1f} MB; '
                        f'SHA-256 recorded on first use: {recorded}'
                    )
    except OSError as error:
        raise UserError(
            f'{url}: cannot be kept in {folder}: {error.strerror or error}; '
            'DNNLIB_CACHE_DIR chooses another folder'
        ) from error
    return path


def _name_of_copy(address: str) -> str:
    last = Path(urllib.parse.urlsplit(address).path).name
    readable = re.sub(r'[^\w.-]', '_', last)[-80:] or 'file'
    return f'{hashlib.sha256(address.encode()).hexdigest()[:16]}-{readable}'


def _fetch(
    url: str,
    path: Path,
    progress: Progress | None,
    timeout: float,
    pause: float,
    sha256: str,
    check: Check | None,
    max_size: int,
    watch: Watch,
) -> None:
    part, problem = path.with_name(path.name + '.part'), ''
    for attempt in range(ATTEMPTS):
        if attempt > 0:
            watch.pause(pause * 2 ** (attempt - 1))
        if watch.gave_up:
            break
        try:
            _attempt(url, part, progress, min(timeout, watch.time_left), max_size, watch)
            _require_content(part, sha256, check)
            _keep(part, path)
            return
        except _Refused as error:
            _discard(part)
            raise UserError(f'{printable(url)}: {error}; {BY_OTHER_MEANS}') from error
        except urllib.error.HTTPError as error:
            problem = f'the server answers {error.code} {printable(error.reason)}'
            if error.code == 416:  # what is here is no beginning of what is there
                _discard(part)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except urllib.error.URLError as error:
            problem = printable(error.reason) or type(error).__name__
            if (
                isinstance(error.reason, (socket.gaierror, ConnectionRefusedError))
                and not part.exists()
            ):
                break  # no such host, or nobody listens there: it would not help to wait
        except _OtherPart as error:
            problem = str(error)
            _discard(part)
        except (
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
            ValueError,
        ) as error:
            problem = printable(error) or type(error).__name__
    if watch.gave_up:
        problem = watch.reason
    raise UserError(
        f'{printable(url)}: download failed ({problem}); try again, or {BY_OTHER_MEANS}'
    )


def _attempt(
    url: str, part: Path, progress: Progress | None, timeout: float, max_size: int, watch: Watch
) -> None:
    """Fetch the rest of a file; all of it where the server can't continue or has another now."""
    have = part.stat().st_size if part.exists() else 0
    validator = _read_validator(part)
    headers = {'User-Agent': 'stylegan2-toonify', 'Accept-Encoding': 'identity'}
    if have and validator:
        headers |= {'Range': f'bytes={have}-', 'If-Range': validator}
    with request(url, headers, watch, timeout) as response:
        total, continued = _expected_size(response, have if 'Range' in headers else None)
        if not continued:
            have = 0
        if total is not None and total > max_size:
            raise _Refused(f'{total / 1e9:.1f} GB are more than such a file has')
        with _open_part(part, response.headers, continued) as file:
            while chunk := response.read1(CHUNK):
                have += len(chunk)
                if have > max_size:
                    raise _Refused(
                        f'what arrives is longer than the {max_size / 1e9:.1f} GB that such a file '
                        'has at most'
                    )
                _require_space(part, len(chunk) if total is None else total - have + len(chunk))
                file.write(chunk)
                watch.arrived(len(chunk), have, total)
                if progress is not None:
                    progress(have, total)
        if watch.gave_up:  # the end of a file of unknown length would look the same
            raise TimeoutError(watch.reason)
        if total is not None and have != total:
            raise http.client.IncompleteRead(b'', total - have)


def _expected_size(response: Any, asked_from: int | None) -> tuple[int | None, bool]:
    """Read from an answer's headers what it is an answer to.

    Returns:
        The size of the whole file (None where the server doesn't say), and whether the answer
        continues it where asked to.

    Raises:
        _Refused: the answer is none to a download.
        _OtherPart: it is another part than was asked for.
    """
    if response.status not in (200, 206):
        raise _Refused(
            f'the server answers {response.status} {printable(response.reason)}, which is no file'
        )
    text = response.headers.get('Content-Length') or ''
    length = int(text) if re.fullmatch('[0-9]{1,18}', text) else None
    if response.status == 200:
        return length, False
    if asked_from is None:
        raise _Refused('the server sends a part of the file, where all of it was asked for')
    match = re.fullmatch(
        r'bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)',
        response.headers.get('Content-Range') or '',
    )
    if match is not None and int(match[1]) == asked_from:
        end = int(match[2]) + 1
        if (match[3] == '*' or int(match[3]) == end) and length in (None, end - asked_from):
            return end, True
    raise _OtherPart('the server sends another part of the file than was asked for')


def _open_part(part: Path, headers: Any, continued: bool) -> IO[bytes]:
    """Open the temporary file, to be appended to or empty.

    What identifies the server's version of a file is never kept beside bytes of another version.
    """
    if continued:
        return os.fdopen(os.open(part, os.O_WRONLY | os.O_APPEND | _NO_FOLLOW), 'ab')
    _discard(part)
    etag = headers.get('ETag') or ''
    validator = etag if etag and not etag.startswith('W/') else headers.get('Last-Modified')
    with atomic_path(_validator(part)) as temp:
        temp.write_text(json.dumps({'validator': validator}))
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666), 'wb')


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free - DISK_RESERVE:
        raise _Refused(
            f'{needed / 1e6:.0f} MB are still to come and {part.parent} has '
            f'{free / 1e6:.0f} MB free, of which '
            f'{DISK_RESERVE / 1e6:.0f} MB stay so; DNNLIB_CACHE_DIR chooses another folder'
        )


def _require_content(path: Path, sha256: str, check: Check | None) -> None:
    """Look at a file that has arrived, before it is kept.

    Raises:
        _Refused: it is not what it should be.
    """
    problem = _problem_of(path, check)
    if problem:
        raise _Refused(f'what arrived is {problem}')
    digest = file_sha256(path)
    if not digest.startswith(sha256):
        raise _Refused(
            f'what arrived ({path.stat().st_size:,} bytes) has the SHA-256 {digest}, '
            f'expected {sha256}…'
        )


def _problem_of(path: Path, check: Check | None) -> str:
    """What a file is instead of what it should be, by its first bytes; empty if they are right."""
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        return 'an empty file'
    if re.match(rb'(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)', head, re.IGNORECASE):
        return 'a web page'
    return check(head) if check is not None else ''


def _keep(part: Path, path: Path) -> None:
    """Give a file its name in the cache, its hash first: a copy without one is never there."""
    with part.open('rb+') as file:
        os.fsync(file.fileno())
    with atomic_path(path.with_name(path.name + '.sha256')) as temp:
        temp.write_text(file_sha256(part))
    part.replace(path)
    _validator(part).unlink(missing_ok=True)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    return part.with_name(part.name + '.json')


def _read_validator(part: Path) -> str:
    try:
        return str(json.loads(_validator(part).read_text()).get('validator') or '')
    except (OSError, ValueError, AttributeError):
        return ''


def _check_kept(path: Path, url: str, expected: str, check: Check | None) -> None:
    problem = _problem_of(path, check)
    if problem:
        raise UserError(
            f'{path}: what was kept of {url} is {problem}; '
            f'remove it (rm {path}) and try again, or {BY_OTHER_MEANS}'
        )
    check_hash(
        path, path.with_name(path.name + '.sha256'), expected, f'what was downloaded from {url}'
    )


def _refuse_links(path: Path) -> None:
    """Refuse what this program has not put into its cache.

    A link would be written through, and a pipe be waited for.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise UserError(
            f'{path}: a link, folder or special file in the cache of downloads; remove it'
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system releases it when that ends, however it ends."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666), 'rb+') as file:
        _lock_file(file)
        yield


def _lock_file(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
                return
            except OSError:  # it gives up after ten seconds; the other process may need longer
                continue
    fcntl.flock(file, fcntl.LOCK_EX)
