"""Files from the web: streamed into a cache, taken up again after a broken connection, checked ever after."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from .util import UserError, make_cache_dir_path

ATTEMPTS = 6
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20

Progress = Callable[[int, int | None], None]


def is_url(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.startswith(('http://', 'https://'))


def fetch(url: str, **options: Any) -> Path:
    """`open_url` with a progress bar where stderr is a terminal."""
    with tqdm(desc=f'Fetching {url.rsplit("/", 1)[-1]}', unit='B', unit_scale=True, disable=None) as bar:
        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)
        return open_url(url, progress=show, **options)


def open_url(url: str, *, cache_dir: Path | None = None, progress: Progress | None = None, timeout: float = TIMEOUT,
             pause: float = 1.0, sha256: str = '') -> Path:
    """A local copy of what a URL names.

    The file is streamed into the cache under a temporary name and gets its own when it is whole. Its SHA-256 is recorded on
    first use and compared at every later one. Several processes may ask for the same URL: one fetches, the others wait.

    Args:
        url: http or https.
        cache_dir: None for `make_cache_dir_path('downloads')`.
        progress: told the bytes fetched and the total (None where the server doesn't say).
        timeout: seconds without a byte after which an attempt is given up.
        pause: seconds before the second attempt; doubled before each further one.
        sha256: what the hash must begin with, in hexadecimal digits.

    Returns:
        The path of the file in the cache.

    Raises:
        UserError: it can't be had, or the copy in the cache has changed; the message says what to do.
    """
    if not is_url(url):
        raise UserError(f'{url}: not an http(s) address')
    folder = make_cache_dir_path('downloads') if cache_dir is None else cache_dir
    name = re.sub(r'[^\w.-]', '_', Path(urllib.parse.urlparse(url).path).name)[-80:] or 'file'
    path = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_name(path.name + '.lock')):
            if not path.exists():
                _fetch(url, path, progress, timeout, pause)
            _check(path, url, sha256)
    except OSError as error:
        raise UserError(f'{url}: cannot be kept in {folder}: {error.strerror or error}; DNNLIB_CACHE_DIR chooses another folder') from error
    return path


def _fetch(url: str, path: Path, progress: Progress | None, timeout: float, pause: float) -> None:
    part, problem = path.with_name(path.name + '.part'), ''
    for attempt in range(ATTEMPTS):
        if attempt > 0:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _attempt(url, part, progress, timeout)
            with part.open('rb+') as file:
                os.fsync(file.fileno())
            part.replace(path)
            path.with_name(path.name + '.sha256').write_text(file_sha256(path))
            _validator(part).unlink(missing_ok=True)
            return
        except urllib.error.HTTPError as error:
            problem = f'the server answers {error.code} {error.reason}'
            if error.code == 416:  # what is here is no beginning of what is there
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, 'reason', error)) or type(error).__name__
    raise UserError(f'{url}: download failed ({problem}); try again, or download it by other means and give the path of the file')


def _attempt(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """Fetch the rest of a file, or all of it where the server can't go on or the file there is another one by now."""
    have = part.stat().st_size if part.exists() else 0
    validator = _read_validator(part)
    request = urllib.request.Request(url, headers={'User-Agent': 'stylegan2-toonify'})
    if have and validator:
        request.add_header('Range', f'bytes={have}-')
        request.add_header('If-Range', validator)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if not is_url(response.geturl()):
            raise UserError(f'{url}: redirected to {response.geturl()}, which is no http(s) address')
        goes_on = response.status == 206 and response.headers.get('Content-Range', '').startswith(f'bytes {have}-')
        have = have if goes_on else 0
        length = response.headers.get('Content-Length')
        total = have + int(length) if length and length.isdigit() else None
        _write_validator(part, response.headers)
        with part.open('ab' if goes_on else 'wb') as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
        if total is not None and have != total:
            raise http.client.IncompleteRead(b'', total - have)


def _validator(part: Path) -> Path:
    return part.with_name(part.name + '.json')


def _read_validator(part: Path) -> str:
    try:
        return str(json.loads(_validator(part).read_text()).get('validator') or '')
    except (OSError, ValueError):
        return ''


def _write_validator(part: Path, headers: Any) -> None:
    etag = headers.get('ETag') or ''
    _validator(part).write_text(json.dumps({'validator': etag if etag and not etag.startswith('W/') else headers.get('Last-Modified')}))


def _check(path: Path, url: str, expected: str) -> None:
    recorded = path.with_name(path.name + '.sha256')
    digest = file_sha256(path)
    if not recorded.exists():
        recorded.write_text(digest)
    if recorded.read_text().strip() != digest:
        raise UserError(f'{path}: no longer what was downloaded from {url} (its SHA-256 has changed); delete it to fetch it again')
    if not digest.startswith(expected):
        raise UserError(f'{path}: what came from {url} has the SHA-256 {digest}, expected {expected}…; delete it to fetch it again')


def file_sha256(path: Path) -> str:
    """Of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system releases it when the process ends, however it ends."""
    with path.open('a+b') as file:
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
