"""A corpus of odd pictures, made by other programs (Pillow, libvips, ffmpeg, resvg, ImageMagick),
against what they show by construction.

The pattern that is drawn is known in every pixel; how a program stored it must not be seen in the
data set.
"""

import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagemagick_corpus
import numpy as np
import pytest
from PIL import Image
from test_prepare_data import encode, prepare, read

SIZE = 64
# name, file, what it shows, largest mean difference of 8×8 blocks
Case = tuple[str, bytes, np.ndarray, float]


def pattern() -> np.ndarray:
    """uint8 `[64, 64, 3]`: smooth, without symmetry, the last row and column as bright as any."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1)
    disc = ((x - 0.3) ** 2 + (y - 0.6) ** 2 < 0.05)[..., np.newaxis]
    return np.rint(
        np.where(disc, [200, 60, 40], np.stack([40 + 180 * x, 60 + 150 * y, 220 - 100 * x * y], -1))
    ).astype(np.uint8)


RGB = pattern()
GREY = np.rint(RGB @ [0.299, 0.587, 0.114]).astype(np.uint8)
ALPHA = np.rint(np.linspace(0, 255, SIZE)[:, np.newaxis] * np.ones(SIZE)).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
BITS = GREY > 120


def over(colour: np.ndarray, backdrop: float = 255) -> np.ndarray:
    a = ALPHA[..., np.newaxis] / 255
    return colour * a + backdrop * (1 - a)


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, -1).astype(float)


# ---- profiles: written and computed here, by the ICC's specification and Lind

# D50
P3_TO_XYZ = np.array(
    [
        [0.515102, 0.291965, 0.157153],
        [0.241182, 0.692236, 0.066582],
        [-0.001048, 0.041882, 0.784378],
    ]
)
XYZ_TO_SRGB = np.linalg.inv(
    np.array(
        [
            [0.436066, 0.385147, 0.143066],
            [0.222488, 0.716874, 0.060608],
            [0.013916, 0.097076, 0.714096],
        ]
    )
)
GAMMA = 2.2


def icc(space: bytes) -> bytes:
    def fixed(values: Any) -> bytes:
        return struct.pack('>3i', *(round(value * 65536) for value in values))

    curve = b'curv' + bytes(4) + struct.pack('>IH', 1, round(GAMMA * 256)) + bytes(2)
    tags = {
        b'desc': b'desc' + bytes(4) + struct.pack('>I', 5) + b'test\0' + bytes(79),
        b'cprt': b'text' + bytes(4) + b'none\0' + bytes(3),
        b'wtpt': b'XYZ ' + bytes(4) + fixed([0.9642, 1, 0.8249]),
    }
    if space == b'RGB ':
        tags |= {
            name + b'XYZ': b'XYZ ' + bytes(4) + fixed(column)
            for name, column in zip((b'r', b'g', b'b'), P3_TO_XYZ.T)
        }
        tags |= {name + b'TRC': curve for name in (b'r', b'g', b'b')}
    else:
        tags[b'kTRC'] = curve
    table, data, offset = b'', b'', 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack('>II', offset + len(data), len(content))
        data += content
    body = struct.pack('>I', len(tags)) + table + data
    head = (
        struct.pack('>I4sI4s4s4s', 128 + len(body), b'test', 0x02400000, b'mntr', space, b'XYZ ')
        + bytes(12)
        + b'acsp'
        + bytes(28)
    )
    return (head + fixed([0.9642, 1, 0.8249])).ljust(128, b'\0') + body


def to_srgb(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def from_p3(values: np.ndarray) -> np.ndarray:
    return to_srgb((values / 255) ** GAMMA @ P3_TO_XYZ.T @ XYZ_TO_SRGB.T)


def from_grey_gamma(values: np.ndarray) -> np.ndarray:
    return grey(to_srgb((values / 255) ** GAMMA))


# ---- the programs -----------------------------------------------------------


def by_pillow() -> list[Case]:
    image, cases = Image.fromarray, []
    colour, level, rgba, la = image(RGB), image(GREY), image(RGBA), image(np.dstack([GREY, ALPHA]))

    def add(
        name: str,
        picture: Image.Image,
        what: str,
        expected: np.ndarray,
        tolerance: float = 0.6,
        **options: Any,
    ) -> None:
        cases.append((f'pillow-{name}', encode(picture, what, **options), expected, tolerance))

    for suffix in ('png', 'bmp', 'tif', 'ppm', 'tga', 'sgi', 'pcx', 'dds', 'qoi'):
        add(f'rgb.{suffix}', colour, suffix, RGB)
    for name, options in {
        '420': dict(subsampling=2),
        '422': dict(subsampling=1),
        '444': dict(subsampling=0),
        'progressive': dict(progressive=True),
        'restarts': dict(restart_marker_blocks=1),
    }.items():
        add(f'{name}.jpg', colour, 'jpg', RGB, 5, quality=92, **options)
    for name in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits'):
        add(f'{name}.tif', colour, 'tif', RGB, compression=name)
    add('jpeg-in.tif', colour, 'tif', RGB, 4, compression='jpeg')
    add('lossy.webp', colour, 'webp', RGB, 6, quality=90)
    add('lossless.webp', colour, 'webp', RGB, lossless=True)
    add('rgb.jp2', colour, 'JPEG2000', RGB, irreversible=False)
    add('rgb.ico', colour, 'ico', RGB, sizes=[(SIZE, SIZE)])
    add('rle.tga', rgba, 'tga', over(RGB), compression='tga_rle')
    add('rgba.tif', rgba, 'tif', over(RGB))
    add('rgba.webp', rgba, 'webp', over(RGB), 1, lossless=True, exact=True)
    add('rgba.ico', rgba, 'ico', over(RGB), sizes=[(SIZE, SIZE)])
    add('la.png', la, 'png', over(grey(GREY)))
    add('la.jp2', la, 'JPEG2000', over(grey(GREY)), irreversible=False)
    for suffix in ('png', 'tif', 'pcx', 'sgi', 'tga', 'bmp'):
        add(f'grey.{suffix}', level, suffix, grey(GREY))
    add('1.png', image(BITS), 'png', grey(BITS * 255))
    add('fax.tif', image(BITS), 'tif', grey(BITS * 255), compression='group4')
    add('1.bmp', image(BITS), 'bmp', grey(BITS * 255))
    few = colour.quantize(16, dither=Image.Dither.NONE)
    shown = np.asarray(few.convert('RGB'))
    for suffix in ('png', 'gif', 'bmp', 'tif'):
        add(f'palette.{suffix}', few, suffix, shown)
    add('4-bits.png', few, 'png', shown, bits=4)
    other = image(np.zeros_like(RGB))
    for suffix in ('gif', 'webp', 'png', 'tif'):
        add(
            f'several.{suffix}',
            few if suffix == 'gif' else colour,
            suffix,
            shown if suffix == 'gif' else RGB,
            save_all=True,
            append_images=[other],
            **(dict(lossless=True) if suffix == 'webp' else {}),
        )
    add('stereo.mpo', colour, 'MPO', RGB, 6, save_all=True, append_images=[other], quality=92)
    for orientation in range(2, 9):
        stored = {
            2: RGB[:, ::-1],
            3: RGB[::-1, ::-1],
            4: RGB[::-1],
            5: RGB.swapaxes(0, 1),
            6: np.rot90(RGB),
            7: np.rot90(RGB, 2).swapaxes(0, 1),
            8: np.rot90(RGB, -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(
            f'turned-{orientation}.jpg',
            image(np.ascontiguousarray(stored)),
            'jpg',
            RGB,
            5,
            quality=95,
            exif=exif,
        )
    for suffix, options in {
        'png': {},
        'jpg': dict(quality=95, subsampling=0),
        'webp': dict(lossless=True),
        'tif': {},
    }.items():
        add(f'p3.{suffix}', colour, suffix, from_p3(RGB), 3, icc_profile=icc(b'RGB '), **options)
    add('p3-rgba.png', rgba, 'png', over(from_p3(RGB)), 2, icc_profile=icc(b'RGB '))
    add('p3-palette.png', few, 'png', from_p3(shown), 2, icc_profile=icc(b'RGB '))
    add('gamma-grey.png', level, 'png', from_grey_gamma(GREY), 1.5, icc_profile=icc(b'GRAY'))
    add('gamma-la.png', la, 'png', over(from_grey_gamma(GREY)), 1.5, icc_profile=icc(b'GRAY'))
    add('wrong-profile.png', level, 'png', grey(GREY), icc_profile=icc(b'RGB '))
    add('broken-profile.png', colour, 'png', RGB, icc_profile=b'no profile' * 20)
    add('cmyk.tif', image(np.dstack([255 - RGB, np.zeros_like(GREY)]), 'CMYK'), 'tif', RGB, 1)
    add(
        'cmyk.jpg',
        image(np.dstack([255 - RGB, np.zeros_like(GREY)]), 'CMYK'),
        'jpg',
        RGB,
        3,
        quality=95,
    )
    lab = np.zeros_like(RGB) + np.uint8([140, 20, 246])  # L* 54.9, a* 20, b* -10
    light = np.array(
        [(54.902 + 16) / 116 + 20 / 500, (54.902 + 16) / 116, (54.902 + 16) / 116 + 10 / 200]
    ) ** 3 * [0.9642, 1, 0.8249]
    add('lab.tif', image(lab, 'LAB'), 'tif', np.zeros(RGB.shape) + to_srgb(XYZ_TO_SRGB @ light), 2)
    return cases


def by_vips() -> list[Case]:
    vips = pytest.importorskip('pyvips', exc_type=ImportError)
    colour, level, rgba = (
        vips.Image.new_from_array(RGB),
        vips.Image.new_from_array(GREY),
        vips.Image.new_from_array(RGBA),
    )
    colour, rgba = (picture.copy(interpretation='srgb') for picture in (colour, rgba))
    level = level.copy(interpretation='b-w')
    deep = (colour.cast('ushort') * 257).cast('ushort').copy(interpretation='rgb16')
    deep_alpha = (rgba.cast('ushort') * 257).cast('ushort').copy(interpretation='rgb16')
    deep_grey = (level.cast('ushort') * 257).cast('ushort').copy(interpretation='grey16')
    cases = []

    def add(
        name: str,
        picture: Any,
        suffix: str,
        expected: np.ndarray,
        tolerance: float = 1,
        **options: Any,
    ) -> None:
        cases.append(
            (
                f'vips-{name}{suffix}',
                picture.write_to_buffer(suffix, **options),
                expected,
                tolerance,
            )
        )

    add('interlaced', colour, '.png', RGB, interlace=True)
    add('rgb16', deep, '.png', RGB)
    add('rgba16', deep_alpha, '.png', over(RGB))
    add('grey16', deep_grey, '.png', grey(GREY))
    add(
        'grey2',
        vips.Image.new_from_array(GREY >> 6).copy(interpretation='b-w'),
        '.png',
        grey((GREY >> 6) * 85),
        bitdepth=2,
    )
    add('rgb16', deep, '.tif', RGB)
    add('grey16', deep_grey, '.tif', grey(GREY))
    add(
        'tiles',
        colour,
        '.tif',
        RGB,
        tile=True,
        tile_width=16,
        tile_height=16,
        compression='lzw',
        predictor='horizontal',
    )
    add('pyramid', colour, '.tif', RGB, tile=True, pyramid=True, tile_width=16, tile_height=16)
    add('big', colour, '.tif', RGB, bigtiff=True)
    add('optimised', colour, '.jpg', RGB, 3, Q=92, optimize_coding=True, interlace=True)
    add('lossless', rgba, '.webp', over(RGB), lossless=True, exact=True)
    add('rgb', colour, '.gif', RGB, 12, dither=0)
    turned = colour.rot90().copy()
    turned.set_type(vips.GValue.gint_type, 'orientation', 8)
    add('turned', turned, '.jpg', RGB, 3, Q=95)
    return cases


def by_ffmpeg() -> list[Case]:
    from imageio_ffmpeg import get_ffmpeg_exe

    cases = []
    for name, codec, pixels, what, expected, tolerance in [
        ('rgb48.png', 'png', 'rgb48be', RGB, RGB, 1),
        ('rgba64.png', 'png', 'rgba64be', RGBA, over(RGB), 1),
        ('grey16.png', 'png', 'gray16be', GREY, grey(GREY), 1),
        ('ya.png', 'png', 'ya8', np.dstack([GREY, ALPHA]), over(grey(GREY)), 1),
        ('ya16.png', 'png', 'ya16be', np.dstack([GREY, ALPHA]), over(grey(GREY)), 1),
        ('rgb.bmp', 'bmp', 'bgr24', RGB, RGB, 1),
        ('rgb565.bmp', 'bmp', 'rgb565le', RGB, RGB, 5),
        ('rgb.tga', 'targa', 'bgr24', RGB, RGB, 1),
        ('rgba.tga', 'targa', 'bgra', RGBA, over(RGB), 1),
        ('rgb.tif', 'tiff', 'rgb24', RGB, RGB, 1),
        ('rgb48.tif', 'tiff', 'rgb48le', RGB, RGB, 1),
        ('rgb.pcx', 'pcx', 'rgb24', RGB, RGB, 1),
        ('rgb.qoi', 'qoi', 'rgb24', RGB, RGB, 1),
        ('grey.pgm', 'pgm', 'gray', GREY, grey(GREY), 1),
        ('rgb.ppm', 'ppm', 'rgb24', RGB, RGB, 1),
        ('420.jpg', 'mjpeg', 'yuvj420p', RGB, RGB, 8),
        ('444.jpg', 'mjpeg', 'yuvj444p', RGB, RGB, 5),
        ('rgb.jp2', 'jpeg2000', 'rgb24', RGB, RGB, 5),
    ]:
        source = {1: 'gray', 2: 'ya8', 3: 'rgb24', 4: 'rgba'}[
            what.shape[2] if what.ndim == 3 else 1
        ]
        command = [
            get_ffmpeg_exe(),
            '-v',
            'error',
            '-f',
            'rawvideo',
            '-pix_fmt',
            source,
            '-s',
            f'{SIZE}x{SIZE}',
            '-i',
            '-',
            '-frames:v',
            '1',
            '-pix_fmt',
            pixels,
            '-c:v',
            codec,
            '-q:v',
            '2',
            '-f',
            'image2pipe',
            '-',
        ]
        done = subprocess.run(command, input=what.tobytes(), capture_output=True, check=True)
        cases.append((f'ffmpeg-{name}', done.stdout, expected, tolerance))
    return cases


def by_resvg() -> list[Case]:
    import resvg_py

    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}"><rect width="32" '
        f'height="64" fill="#3264c8"/>'
        '<rect x="32" width="32" height="32" fill="#ff0000" fill-opacity="0.5"/></svg>'
    )
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    expected = np.full(RGB.shape, 255.0)
    expected[:, :32], expected[:32, 32:] = [50, 100, 200], [255, 127.5, 127.5]
    return [('resvg-rgba.png', data, expected, 1)]


def by_heif() -> list[Case]:
    pytest.importorskip('pillow_heif').register_heif_opener()
    return [('phone.heic', encode(Image.fromarray(RGB), 'HEIF', quality=95), RGB, 8)]


def drawn(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """What ImageMagick was given, and how that looks."""
    few = np.asarray(Image.fromarray(RGB).quantize(16, dither=Image.Dither.NONE).convert('RGB'))
    return {
        'rgb': (RGB, RGB),
        'rgba': (RGBA, over(RGB)),
        'grey': (GREY, grey(GREY)),
        'palette': (few, few),
        'bits': (BITS * np.uint8(255), grey(BITS * 255)),
        'turned': (np.ascontiguousarray(np.rot90(RGB)), RGB),
        'rgba-grey': (np.dstack([GREY, GREY, GREY, ALPHA]), over(grey(GREY))),
    }[kind]


def by_imagemagick() -> list[Case]:
    return [
        (
            f'magick-{name}',
            (imagemagick_corpus.FOLDER / name).read_bytes(),
            drawn(kind)[1],
            tolerance,
        )
        for name, (kind, _, tolerance) in imagemagick_corpus.CASES.items()
    ]


MAKERS: dict[str, Callable[[], list[Case]]] = {
    'pillow': by_pillow,
    'vips': by_vips,
    'ffmpeg': by_ffmpeg,
    'resvg': by_resvg,
    'heif': by_heif,
    'imagemagick': by_imagemagick,
}


def blocks(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))


@pytest.mark.parametrize('maker', MAKERS)
def test_files_of_many_programs_come_out_as_they_look(maker: str, tmp_path: Path) -> None:
    source = tmp_path / 'corpus'
    source.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # of fromarray's mode
        cases = {
            name: (data, expected, tolerance) for name, data, expected, tolerance in MAKERS[maker]()
        }
    assert (
        len(cases)
        >= {'pillow': 60, 'vips': 14, 'ffmpeg': 18, 'resvg': 1, 'heif': 1, 'imagemagick': 40}[maker]
    )
    for name, (data, _, _) in cases.items():
        (source / name).write_bytes(data)
    assert prepare(source, tmp_path / 'set.zip', resolution=SIZE) == 0
    pictures, metadata = read(tmp_path / 'set.zip')
    assert sorted(metadata['files']) == sorted(cases), 'nothing is lost'
    wrong = []
    for name, picture in zip(metadata['files'], pictures):
        _, expected, tolerance = cases[name]
        difference = np.abs(blocks(picture) - blocks(np.asarray(expected, float))).max()
        if difference > tolerance:
            wrong.append(f'{name}: {difference:.2f} > {tolerance}')
    assert not wrong
