"""Downloads from a server on this machine that breaks, stalls, lies and redirects."""

import hashlib
import http.server
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from dnnlib import UserError
from dnnlib.download import open_url

DATA = np.random.RandomState(0).bytes(300_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """What it does depends on the path; `seen` counts the requests, `ranges` records their Range
    headers.
    """

    seen: ClassVar[dict[str, int]] = {}
    ranges: ClassVar[list[str | None]] = []
    release: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        path = self.path.split('?')[0]
        self.seen[path] = number = self.seen.get(path, 0) + 1
        self.ranges.append(self.headers.get('Range'))
        if path == '/missing.pkl':
            return self.send_error(404)
        if path == '/busy.pkl' and number < 3:
            return self.send_error(503)
        if path == '/redirect.pkl':
            self.send_response(302)
            self.send_header('Location', '/plain.pkl')
            self.end_headers()
            return None
        if path == '/away.pkl':
            self.send_response(302)
            self.send_header('Location', 'file:///etc/passwd')
            self.end_headers()
            return None
        start = 0
        if 'Range' in self.headers and path != '/norange.pkl':
            start = int(self.headers['Range'].split('=')[1].rstrip('-'))
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(DATA) - 1}/{len(DATA)}')
        else:
            self.send_response(200)
        self.send_header('ETag', '"1"' if path != '/changing.pkl' else f'"{number}"')
        body = DATA[start:]
        if path != '/nolength.pkl':
            self.send_header(
                'Content-Length', str(len(body) + (1000 if path == '/liar.pkl' else 0))
            )
        self.end_headers()
        breaks = path in ('/breaks.pkl', '/norange.pkl') and number < 4
        if path == '/stalls.pkl' and number == 1:
            self.wfile.write(body[:1000])
            self.release.wait(5)
            return None
        self.wfile.write(body[:100_000] if breaks else body)
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen.clear()
    Handler.ranges.clear()
    Handler.release.clear()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        Handler.release.set()
        httpd.shutdown()


def get(url: str, cache: Path) -> bytes:
    return open_url(url, cache_dir=cache, timeout=0.5, pause=0.01).read_bytes()


@pytest.mark.parametrize(
    'name', ['plain', 'breaks', 'norange', 'nolength', 'redirect', 'busy', 'stalls', 'changing']
)
def test_the_file_arrives(name: str, server: str, tmp_path: Path) -> None:
    assert get(f'{server}/{name}.pkl', tmp_path) == DATA
    names = {path.suffix for path in tmp_path.iterdir()}
    assert names == {'.pkl', '.sha256', '.lock'}
    requests = Handler.seen[f'/{name}.pkl']
    # from the cache
    assert (
        get(f'{server}/{name}.pkl', tmp_path) == DATA and Handler.seen[f'/{name}.pkl'] == requests
    )


def test_a_broken_download_is_taken_up_where_it_broke(server: str, tmp_path: Path) -> None:
    get(f'{server}/breaks.pkl', tmp_path)
    assert Handler.ranges == [None, 'bytes=100000-', 'bytes=200000-'] or Handler.ranges[:2] == [
        None,
        'bytes=100000-',
    ]


@pytest.mark.parametrize(
    'name,words', [('missing', '404'), ('liar', 'download failed'), ('away', 'not an http')]
)
def test_a_failed_download_says_why(name: str, words: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        get(f'{server}/{name}.pkl', tmp_path)
    assert not list(tmp_path.glob('*.pkl'))


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='download failed'):
        get('http://127.0.0.1:9/x.pkl', tmp_path)
    with pytest.raises(UserError, match='not an http'):
        get('ftp://127.0.0.1/x.pkl', tmp_path)


def test_a_changed_copy_is_noticed(server: str, tmp_path: Path) -> None:
    path = open_url(f'{server}/plain.pkl', cache_dir=tmp_path)
    path.write_bytes(b'other')
    with pytest.raises(UserError, match='SHA-256 has changed'):
        open_url(f'{server}/plain.pkl', cache_dir=tmp_path)


def test_an_expected_hash_is_checked(server: str, tmp_path: Path) -> None:
    right = hashlib.sha256(DATA).hexdigest()
    for expected in (right, right[:8]):
        assert (
            open_url(f'{server}/plain.pkl', cache_dir=tmp_path, sha256=expected).read_bytes()
            == DATA
        )
    with pytest.raises(UserError, match=f'has the SHA-256 {right}, expected 0000'):
        open_url(f'{server}/plain.pkl', cache_dir=tmp_path, sha256='0000')


def test_urls_of_one_file_name_are_kept_apart(server: str, tmp_path: Path) -> None:
    assert open_url(f'{server}/plain.pkl?a', cache_dir=tmp_path) != open_url(
        f'{server}/plain.pkl?b', cache_dir=tmp_path
    )


def fetch(url: str, cache: str) -> int:
    return len(open_url(url, cache_dir=Path(cache)).read_bytes())


def test_several_processes_fetch_once(server: str, tmp_path: Path) -> None:
    with multiprocessing.get_context('spawn').Pool(3) as pool:
        assert pool.starmap(fetch, [(f'{server}/plain.pkl', str(tmp_path))] * 3) == [len(DATA)] * 3
    assert Handler.seen['/plain.pkl'] == 1


def test_dnnlib_cache_dir_chooses_the_folder(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    assert open_url(f'{server}/plain.pkl').is_relative_to(tmp_path / 'cache')
