"""Pictures out of folders and zips: the one place that lists, reads and decodes them."""

import io
import json
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .util import UserError

PICTURE_SUFFIXES = frozenset({
    '.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm', '.tga', '.avif',
})

# Not every decoder that Pillow has: EPS, for one, starts another program.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM', 'TGA', 'AVIF')

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


class PictureArchive:
    """The files of a folder (recursive) or of a zip, in sorted order, with `/` in their names.

    Safe to send to worker processes: each process opens the zip for itself.

    Args:
        path: a folder or a zip file.

    Raises:
        UserError: there is nothing at `path`, it can't be read, or it is neither a folder nor a zip.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._pid = -1
        try:
            is_folder = self.path.is_dir()
            if not is_folder and not self.path.exists():
                raise UserError(f'{self.path}: no such file or folder')
        except OSError as error:
            raise UserError(f'{self.path}: cannot be read: {error.strerror or error}') from error
        self._is_folder = is_folder
        self.file_names: list[str] = sorted(self._list_folder() if is_folder else self._list_zip())

    @property
    def picture_names(self) -> list[str]:
        """Those of `file_names` that have a picture's suffix."""
        return [name for name in self.file_names if is_picture_name(name)]

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            UserError: the file is gone, unreadable, encrypted or damaged; the message names it.
        """
        try:
            if self._is_folder:
                return (self.path / name).read_bytes()
            return self._open_zip().read(name)
        except KeyError:
            raise UserError(f'{self.path}: there is no {name} in it') from None
        except _ZIP_ERRORS as error:
            raise UserError(f'{self.path}: cannot read {name}: {error}') from error

    def read_json(self, name: str = 'dataset.json') -> dict[str, Any] | None:
        """A JSON object at the archive's top level, or None where there is no such file.

        Raises:
            UserError: the file is no JSON object.
        """
        if name not in self.file_names:
            return None
        try:
            data = json.loads(self.read(name))
        except ValueError as error:
            raise UserError(f'{self.path}: {name} is not valid JSON: {error}') from error
        if not isinstance(data, dict):
            raise UserError(f'{self.path}: {name} should hold a JSON object, not {type(data).__name__}')
        return data

    def close(self) -> None:
        """Close the zip, if this process has it open."""
        if self._zip is not None and self._pid == os.getpid():
            self._zip.close()
        self._zip = None

    def __enter__(self) -> 'PictureArchive':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_zip': None, '_pid': -1}

    def _open_zip(self) -> zipfile.ZipFile:
        if self._zip is None or self._pid != os.getpid():  # a forked child must not share its parent's file position
            self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
        return self._zip

    def _list_folder(self) -> list[str]:
        def refuse(error: OSError) -> None:
            raise UserError(f'{self.path}: cannot list {error.filename}: {error.strerror}') from error

        names = []
        for folder, _, files in os.walk(self.path, onerror=refuse):
            names += [Path(folder, file).relative_to(self.path).as_posix() for file in files]
        return names

    def _list_zip(self) -> list[str]:
        try:
            return [name for name in self._open_zip().namelist() if not name.endswith('/')]
        except zipfile.BadZipFile as error:
            raise UserError(f'{self.path}: neither a folder nor a zip file ({error})') from error
        except OSError as error:
            raise UserError(f'{self.path}: cannot be read: {error.strerror or error}') from error


def is_picture_name(name: str) -> bool:
    """Whether a file's name says that it is a picture; what a dot hides, it or its folder, and macOS's shadows don't count."""
    parts = name.split('/')
    hidden = any(part.startswith('.') and part not in ('.', '..') or part == '__MACOSX' for part in parts)
    return Path(parts[-1]).suffix.lower() in PICTURE_SUFFIXES and not hidden


def decode_picture(data: bytes, name: str = 'picture', in_threads: bool = False) -> np.ndarray:
    """Decode a picture as it is stored, without any change of colours.

    Args:
        data: the bytes of a file.
        name: what to call it in an error.
        in_threads: several threads of this process decode at the same time. Then imagecodecs does what takes long, or else Pillow, at
            half the speed, for pyspng keeps the others waiting.

    Returns:
        uint8 `[H, W, C]`, 0…255; C is 1, 2, 3 or 4. Palettes are expanded.

    Raises:
        UserError: the data is no picture, or a damaged one.
    """
    try:
        if data[:8] == b'\x89PNG\r\n\x1a\n':
            pixels = _decode_png(data, in_threads)
            if pixels is not None:
                return pixels
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            Image.init()
            with Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN]) as file:
                picture: Image.Image = file
                if picture.mode not in ('L', 'LA', 'RGB', 'RGBA'):
                    picture = picture.convert('RGBA' if picture.has_transparency_data else 'RGB')
                pixels = np.asarray(picture)
    except Image.UnidentifiedImageError as error:
        raise UserError(f'{name}: not a readable picture (its content is in none of the known formats)') from error
    except (OSError, ValueError, SyntaxError, RuntimeError, zlib.error,
            Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f'{name}: not a readable picture ({str(error) or type(error).__name__})') from error
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _decode_png(data: bytes, in_threads: bool) -> np.ndarray | None:
    """8-bit grey, RGB and RGBA through libspng, two to four times as fast as Pillow; None for what Pillow should do."""
    bit_depth, channels = data[24:25], {b'\x00': 1, b'\x02': 3, b'\x06': 4}.get(data[25:26])
    if bit_depth != b'\x08' or channels is None:
        return None
    is_compressed = len(data) < channels * int.from_bytes(data[16:20], 'big') * int.from_bytes(data[20:24], 'big')
    try:
        if in_threads and is_compressed:
            import imagecodecs
            pixels = np.asarray(imagecodecs.spng_decode(data))
        else:
            import pyspng
            pixels = np.asarray(pyspng.load(data))
    except ImportError:  # no wheel for this platform
        return None
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    return pixels if pixels.shape[2] == channels else None
