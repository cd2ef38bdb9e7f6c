"""Faults of servers, networks and the cache: every one ends, in one line that says what to do."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnnlib import UserError, connection, download
from dnnlib.connection import normal_url
from dnnlib.download import fetch, open_url
from torch_utils.misc import problem_of_weights
from training.snapshots import load_networks

DATA = b'\x80\x04' + bytes(range(256)) * 40

Answer = Callable[[socket.socket, str, list[str]], None]


class Server:
    """Answers each connection on 127.0.0.1 with raw bytes, by a function of the connection, path
    and request's lines.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'http://127.0.0.1:{self._listener.getsockname()[1]}'
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with peer:
            request = b''
            while b'\r\n\r\n' not in request:
                chunk = peer.recv(65536)
                if not chunk:
                    return
                request += chunk
            lines = request.decode('latin-1').split('\r\n')
            path = lines[0].split()[1]
            self.asked.append(path)
            try:
                self.answers[path](peer, path, lines)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
            except OSError:
                pass  # the client has had enough

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv('no_proxy', '*')
    running = Server()
    yield running
    running.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, 'WINDOW', 0.6)
    monkeypatch.setattr(connection, 'SAY_EVERY', 0.2)


def raw(data: bytes) -> Answer:
    return lambda peer, path, lines: peer.sendall(data)


def body(data: bytes, head: str = 'HTTP/1.1 200 OK') -> Answer:
    return raw(f'{head}\r\nContent-Length: {len(data)}\r\n\r\n'.encode('latin-1') + data)


def kept(folder: Path) -> list[str]:
    """What an attempt has left, besides the lock."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')


@pytest.mark.parametrize(
    'answer,words',
    [
        (body(b'<!DOCTYPE html><html>Sign in</html>'), 'a web page'),
        (body(b'\xef\xbb\xbf\n <HTML>'), 'a web page'),
        (body(b'hello'), 'not a PyTorch file'),
        (body(b''), 'an empty file'),
        (raw(b'HTTP/1.1 204 No Content\r\n\r\n'), 'answers 204'),
        (raw(b'HTTP/1.1 203 \x1b[2Jx\r\nContent-Length: 1\r\n\r\nx'), r'answers 203 \\x1b\[2Jx'),
        (
            body(
                DATA[5:],
                f'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes '
                f'5-{len(DATA) - 1}/{len(DATA)}',
            ),
            'a part of the file',
        ),
        (body(DATA, 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999'), '100.0 GB'),
    ],
    ids=['page', 'page with BOM', 'text', 'empty', '204', '203', '206', 'large'],
)
def test_a_wrong_answer_is_named_and_not_kept(
    answer: Answer, words: str, server: Server, tmp_path: Path
) -> None:
    server.answers['/x.pth'] = answer
    url = f'{server.url}/x.pth'
    with pytest.raises(UserError, match=f'{url}: .*{words}.*give the path of the file'):
        open_url(url, cache_dir=tmp_path, check=problem_of_weights, pause=0.01)
    assert kept(tmp_path) == [] and server.asked == ['/x.pth']  # nor is it asked for again


def test_a_page_in_place_of_a_snapshot_can_be_followed_by_the_snapshot(
    server: Server, golden: Path, own_cache: Path
) -> None:
    url = f'{server.url}/net.pkl'
    server.answers['/net.pkl'] = body(b'no pickle')
    with pytest.raises(UserError, match='what arrived is no snapshot'):
        load_networks(url)
    server.answers['/net.pkl'] = body((golden / 'ada-uncond-32.pkl').read_bytes())
    assert load_networks(url).G_ema.img_resolution == 32


def test_a_wrong_file_in_the_cache_is_named_with_what_removes_it(
    server: Server, tmp_path: Path
) -> None:
    server.answers['/x.pth'] = body(DATA)
    path = open_url(f'{server.url}/x.pth', cache_dir=tmp_path)
    path.write_bytes(b'<html>')
    with pytest.raises(UserError, match=f'{path}: .*is a web page; remove it .rm {path}'):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path, check=problem_of_weights)
    path.unlink()
    assert open_url(f'{server.url}/x.pth', cache_dir=tmp_path).read_bytes() == DATA


def drip_body(peer: socket.socket, path: str, lines: list[str]) -> None:
    peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n\x80')
    for _ in range(100):
        time.sleep(0.1)
        peer.sendall(b'0')


def drip_without_length(peer: socket.socket, path: str, lines: list[str]) -> None:
    peer.sendall(b'HTTP/1.1 200 OK\r\n\r\n\x80')
    for _ in range(100):
        time.sleep(0.1)
        peer.sendall(b'0')


def drip_headers(peer: socket.socket, path: str, lines: list[str]) -> None:
    peer.sendall(b'HTTP/1.1 200 OK\r\nX: ')
    for _ in range(100):
        time.sleep(0.1)
        peer.sendall(b'x')


def continue_for_ever(peer: socket.socket, path: str, lines: list[str]) -> None:
    for _ in range(1000):
        peer.sendall(b'HTTP/1.1 100 Continue\r\nA: b\r\n\r\n')
        time.sleep(0.01)


def stall(peer: socket.socket, path: str, lines: list[str]) -> None:
    time.sleep(5)


@pytest.mark.parametrize(
    'answer', [drip_body, drip_without_length, drip_headers, continue_for_ever, stall]
)
def test_a_slow_server_is_given_up(
    answer: Answer,
    server: Server,
    tmp_path: Path,
    impatient: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.answers['/slow.pth'] = answer
    start = time.monotonic()
    with pytest.raises(UserError, match='slower than 10 kB per second'):
        open_url(f'{server.url}/slow.pth', cache_dir=tmp_path, pause=0.01, say=print)
    assert time.monotonic() - start < 2
    assert 'slow.pth: 0.0' in capfd.readouterr().out  # a line while it waited
    assert not list(tmp_path.glob('*.pth'))


def test_the_limits_end_a_download_within_a_minute() -> None:
    assert connection.WINDOW + download.TIMEOUT <= 60


def test_a_slow_start_of_a_fast_server_is_waited_for(
    server: Server, tmp_path: Path, impatient: None
) -> None:
    def answer(peer: socket.socket, path: str, lines: list[str]) -> None:
        time.sleep(0.3)
        body(DATA)(peer, path, lines)

    server.answers['/x.pth'] = answer
    assert open_url(f'{server.url}/x.pth', cache_dir=tmp_path).read_bytes() == DATA


def test_an_endless_stream_ends_at_the_limit(server: Server, tmp_path: Path) -> None:
    def answer(peer: socket.socket, path: str, lines: list[str]) -> None:
        peer.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
        while True:
            peer.sendall(bytes(1 << 16))

    server.answers['/endless.pth'] = answer
    with pytest.raises(UserError, match='longer than the 0.0 GB'):
        open_url(f'{server.url}/endless.pth', cache_dir=tmp_path, max_size=1 << 20)
    assert kept(tmp_path) == []


def test_the_disk_is_not_filled(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers['/x.pth'] = body(DATA)
    monkeypatch.setattr(download, 'DISK_RESERVE', 1 << 60)
    with pytest.raises(UserError, match='MB free.*DNNLIB_CACHE_DIR'):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path)
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    'location,words',
    [
        ('http://[::1/', 'malformed'),
        ('file:///etc/passwd', 'not an http'),
        ('ftp://127.0.0.1/x', 'not an http'),
        ('http://a:b/', 'malformed'),
        ('data:,x', 'not an http'),
    ],
)
def test_redirects_that_are_not_followed(
    location: str, words: str, server: Server, tmp_path: Path
) -> None:
    server.answers['/x.pth'] = raw(
        f'HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n'.encode()
    )
    with pytest.raises(UserError, match=f'redirected to .*{words}'):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path, pause=0.01)
    assert server.asked == ['/x.pth']


def test_https_is_not_followed_to_http() -> None:
    from email.message import Message
    from urllib.request import Request

    headers = Message()
    headers['Location'] = 'http://127.0.0.1/x'
    with pytest.raises(UserError, match='not encrypted'):
        connection._Redirects().http_error_302(
            Request('https://127.0.0.1/x'), None, 302, 'Found', headers
        )


def test_characters_beyond_ascii_in_addresses(server: Server, tmp_path: Path) -> None:
    server.answers['/caf%C3%A9.pth?a=%C3%BC'] = body(DATA)
    assert open_url(f'{server.url}/café.pth?a=ü', cache_dir=tmp_path).read_bytes() == DATA
    server.answers['/there.pth'] = raw(
        'HTTP/1.1 302 Found\r\nLocation: /é.pth\r\nContent-Length: 0\r\n\r\n'.encode()
    )
    server.answers['/%C3%A9.pth'] = body(DATA)
    assert open_url(f'{server.url}/there.pth', cache_dir=tmp_path).read_bytes() == DATA
    assert normal_url('https://exämple.org:81/ü') == 'https://xn--exmple-cua.org:81/%C3%BC'


@pytest.mark.parametrize(
    'url',
    [
        'http://[::1/',
        'http://',
        'https:///x',
        'http://a b/',
        'http://x:99999/',
        'http:/x',
        'HTTPS://\x1b[2J/',
        'ftp://127.0.0.1/x',
        'http://' + 'a' * 70 + '/',
        'http://127.0.0.1:9/x\ny',
        'http://127.0.0.1:9/\udcff',
    ],
)
def test_malformed_addresses_are_one_line(url: str, own_cache: Path) -> None:
    with pytest.raises(UserError) as error:
        fetch(url, pause=0.01)
    assert str(error.value).isprintable()
    with pytest.raises(UserError):
        load_networks(url)


def test_an_address_with_one_slash_keeps_it() -> None:
    with pytest.raises(UserError, match='^https:/x//y: not an http'):
        load_networks('https:/x//y')


def test_a_length_that_is_no_number(server: Server, tmp_path: Path) -> None:
    server.answers['/x.pth'] = raw(
        'HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n'.encode('latin-1') + DATA
    )
    assert open_url(f'{server.url}/x.pth', cache_dir=tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    'claim',
    [
        'bytes 0-{last}/{size}',
        'bytes {have}-{last}/{more}',
        'bytes {have}-{last}/*x',
        'bytes {have}-{have}/{size}',
    ],
)
def test_another_part_than_was_asked_for_is_not_appended(
    claim: str, server: Server, tmp_path: Path
) -> None:
    half = len(DATA) // 2

    def answer(peer: socket.socket, path: str, lines: list[str]) -> None:
        if len(server.asked) == 1:  # breaks off
            peer.sendall(
                f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {len(DATA)}\r\n\r\n'.encode()
                + DATA[:half]
            )
        elif any(line.startswith('Range: ') for line in lines):
            text = claim.format(have=half, last=len(DATA) - 1, size=len(DATA), more=len(DATA) + 1)
            peer.sendall(
                f'HTTP/1.1 206 Partial Content\r\nContent-Range: {text}\r\nContent-Length: '
                f'{half}\r\n\r\n'.encode()
                + b'0' * half
            )
        else:
            body(DATA)(peer, path, lines)

    server.answers['/x.pth'] = answer
    assert open_url(f'{server.url}/x.pth', cache_dir=tmp_path, pause=0.01).read_bytes() == DATA


def test_the_servers_version_is_never_kept_beside_another_ones_bytes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers['/x.pth'] = raw(
        f'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: {len(DATA)}\r\n\r\n'.encode() + DATA[:100]
    )
    with pytest.raises(UserError):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path, pause=0.001)
    (validator,) = tmp_path.glob('*.json')
    assert (
        json.loads(validator.read_text()) == {'validator': '"1"'}
        and validator.with_suffix('').stat().st_size == 100
    )

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    server.answers['/x.pth'] = body(DATA, 'HTTP/1.1 200 OK\r\nETag: "2"')
    monkeypatch.setattr(
        download, '_require_space', die
    )  # after the headers of another version, before its first bytes
    with pytest.raises(KeyboardInterrupt):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path)
    assert (
        json.loads(validator.read_text()) == {'validator': '"2"'}
        and validator.with_suffix('').stat().st_size == 0
    )


@pytest.mark.parametrize('suffix', ['', '.part', '.part.json', '.sha256', '.lock'])
def test_links_in_the_cache_are_not_written_through(
    suffix: str, server: Server, tmp_path: Path
) -> None:
    server.answers['/x.pth'] = body(DATA)
    path = open_url(f'{server.url}/x.pth', cache_dir=tmp_path / 'cache')
    for file in path.parent.iterdir():
        file.unlink()
    precious = tmp_path / 'precious'
    precious.write_text('precious')
    planted = path.with_name(path.name + suffix)
    planted.symlink_to(precious)
    with pytest.raises(UserError, match=f'{planted}: a link'):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path / 'cache')
    assert precious.read_text() == 'precious'
    planted.unlink()
    os.mkfifo(planted)
    with pytest.raises(UserError, match='special file'):
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path / 'cache')


def test_control_characters_of_a_server_do_not_reach_the_message(
    server: Server, tmp_path: Path
) -> None:
    server.answers['/x.pth'] = raw(
        b'HTTP/1.1 404 \x1b]0;owned\x07 \xc2\x9b31m\r\nContent-Length: 0\r\n\r\n'
    )
    with pytest.raises(UserError, match=r'answers 404 \\x1b\]0;owned') as error:
        open_url(f'{server.url}/x.pth', cache_dir=tmp_path)
    assert str(error.value).isprintable()


def test_a_first_download_says_that_its_hash_is_recorded(
    server: Server, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answers['/x.pth'] = body(DATA)
    fetch(f'{server.url}/x.pth')
    assert 'SHA-256 recorded on first use' in capfd.readouterr().err
    fetch(f'{server.url}/x.pth')
    assert capfd.readouterr().err == ''
