"""HTTP requests with limits: http(s) only, checked redirects, slow servers are given up."""

import contextlib
import functools
import http.client
import re
import socket
import string
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .util import UserError, printable

MIN_PACE = 10_000  # bytes per second; over WINDOW less than this on average is given up
WINDOW = 45.0  # seconds
SAY_EVERY = 10.0  # seconds between lines about a download
BY_OTHER_MEANS = 'download it by other means and give the path of the file'

Say = Callable[[str], object]


def is_url(text: str) -> bool:
    """Return whether a text is an http or https address."""
    return re.match('https?://', text, re.IGNORECASE) is not None


def normal_url(url: str) -> str:
    """Check an address and percent-encode what is not ASCII in it.

    Raises:
        UserError: it is no http(s) address, or a malformed one.
    """
    if not is_url(url):
        raise UserError(f'{printable(url)}: not an http(s) address')
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = (parts.hostname or '').encode('idna').decode(), parts.port
        path, query = _quote(parts.path), _quote(parts.query)
        user, at, _ = parts.netloc.rpartition('@')
        user = _quote(user)
    except ValueError as error:
        raise UserError(f'{printable(url)}: a malformed address ({printable(error)})') from None
    if not host or any(c.isspace() for c in url):
        advice = 'it looks like https://host/folder/file'
        raise UserError(f'{printable(url)}: a malformed address; {advice}')
    if url.isascii():
        return url
    host = f'[{host}]' if ':' in host else host
    place = user + at + host + ('' if port is None else f':{port}')
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ''))


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe=string.punctuation)


class Watch:
    """Follow a download from a thread of its own, in a `with` block.

    A thread, because a server that sends a byte of its headers from time to time can keep the
    reading of them busy for ever.

    Args:
        name: of the file, for messages.
        say: called with a line every `SAY_EVERY` seconds; None for silence.

    Attributes:
        gave_up: whether less than `MIN_PACE` arrived for `WINDOW` seconds. Then the connection is
            cut.
    """

    def __init__(self, name: str, say: Say | None) -> None:
        self.gave_up = False
        self._name = name
        self._say = say
        self._start = time.monotonic()
        self._arrived = 0
        self._place: tuple[int, int | None] = 0, None
        self._socket: socket.socket | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> 'Watch':
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def arrived(self, count: int, done: int, total: int | None) -> None:
        """Take note of `count` new bytes, with which `done` of `total` are there."""
        self._arrived += count
        self._place = done, total

    def follow(self, connection: socket.socket) -> None:
        """Cut this connection when the download is given up."""
        self._socket = connection
        if self.gave_up:
            _cut(connection)

    def pause(self, seconds: float) -> None:
        """Wait; no longer than until the download is given up."""
        end = time.monotonic() + seconds
        while not self.gave_up and time.monotonic() < end:
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    @property
    def time_left(self) -> float:
        """Seconds until the download would be given up if nothing arrived from its start on."""
        return WINDOW if self._arrived else max(0.1, WINDOW - (time.monotonic() - self._start))

    @property
    def reason(self) -> str:
        """Why it was given up, for a message."""
        return f'for {WINDOW:g} s it was slower than {MIN_PACE / 1000:g} kB per second'

    def _run(self) -> None:
        samples = deque([(self._start, 0)])
        said = self._start
        while not self._end.wait(min(1.0, WINDOW / 20)):
            now = time.monotonic()
            samples.append((now, self._arrived))
            while len(samples) > 1 and samples[1][0] <= now - WINDOW:
                samples.popleft()
            since, before = samples[0]
            if now - since >= WINDOW and self._arrived - before < MIN_PACE * WINDOW:
                self.gave_up = True
                if self._socket is not None:
                    _cut(self._socket)
                return
            if self._say is not None and now - said >= SAY_EVERY:
                said = now
                self._say(self._status())

    def _status(self) -> str:
        done, total = self._place
        of = '' if total is None else f' of {total / 1e6:.1f}'
        return f'{self._name}: {done / 1e6:.1f}{of} MB after {time.monotonic() - self._start:.0f} s'


def _cut(connection: socket.socket) -> None:
    """End a connection, so that whoever reads from it at the moment goes on."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(
            connection, socket.SHUT_RDWR
        )  # not SSLSocket's, which is not for several threads


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to an http(s) address, and never from https to http."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Called by urllib for every kind of redirect, before it looks at the address itself."""
        location = headers.get('Location')
        if location is not None:
            here = printable(req.full_url)
            location = urllib.parse.quote(location, safe=string.punctuation, encoding='iso-8859-1')
            try:
                target = normal_url(urllib.parse.urljoin(req.full_url, location))
            except (ValueError, UserError) as error:
                reason = (
                    printable(error)
                    if isinstance(error, UserError)
                    else f'{printable(location)}: a malformed address'
                )
                raise UserError(f'{here}: redirected to {reason}; {BY_OTHER_MEANS}') from None
            if req.type == 'https' and not target.lower().startswith('https:'):
                raise UserError(
                    f'{here}: redirected to {printable(target)}, which is not encrypted; '
                    f'{BY_OTHER_MEANS}'
                )
            headers.replace_header('Location', target)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(
            functools.partial(_connect, http.client.HTTPConnection, self._watch), req
        )


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(
            functools.partial(_connect, http.client.HTTPSConnection, self._watch), req
        )


def _connect(
    kind: Callable[..., http.client.HTTPConnection], watch: Watch, host: str, **options: Any
) -> http.client.HTTPConnection:
    connection = kind(host, **options)
    connect = connection.connect

    def connect_and_follow() -> None:
        connect()
        watch.follow(connection.sock)

    connection.connect = connect_and_follow  # type: ignore[method-assign]
    return connection


def request(url: str, headers: dict[str, str], watch: Watch, timeout: float) -> Any:
    """Open an address.

    Args:
        url: of `normal_url`.
        timeout: seconds without a byte.

    Returns:
        An `http.client.HTTPResponse` with a status of 200…299.

    Raises:
        UserError: a redirect that is not followed.
        urllib.error.HTTPError: another status.
        OSError, http.client.HTTPException, ValueError: no answer, or none that is HTTP.
    """
    opener = (
        urllib.request.OpenerDirector()
    )  # not build_opener's, which also opens ftp, file and data
    handlers = [
        urllib.request.ProxyHandler(),
        _Http(watch),
        _Https(watch),
        urllib.request.UnknownHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
