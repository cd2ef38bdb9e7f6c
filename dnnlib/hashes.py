"""SHA-256 of files: computed, recorded on first use, compared in full at each later one."""

import hashlib
from pathlib import Path

from .util import UserError, atomic_path, printable

_CHUNK = 1 << 20


def check_hash(path: Path, record: Path, expected: str, what: str) -> str:
    """Compare the SHA-256 of a file, in full, with the one that was recorded on first use.

    Args:
        record: the file that keeps the hash.
        expected: what it must begin with, in hexadecimal digits.
        what: the file is, for messages.

    Returns:
        The hash.

    Raises:
        UserError: it is another one.
    """
    digest = file_sha256(path)
    if not digest.startswith(expected):
        raise UserError(
            f'{path}: {what} has the SHA-256 {digest}, expected {expected}…; '
            f'remove it (rm {path}) to fetch it again'
        )
    try:
        known = record.read_text().strip()
    except FileNotFoundError:
        with atomic_path(record) as temp:
            temp.write_text(digest)
        known = digest
    if known != digest:
        raise UserError(
            f'{path}: no longer {what}: its SHA-256 has changed from {printable(known, 64)} '
            f'to {digest}; remove both it and {record} to start anew'
        )
    return digest


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
