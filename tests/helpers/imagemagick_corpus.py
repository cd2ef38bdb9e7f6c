"""Pictures that ImageMagick stores in its ways; `python tests/imagemagick_corpus.py` makes
`golden/imagemagick` anew by `convert`.

They are kept because few machines have ImageMagick. Made with 6.9.11-60 (Q16) of Debian, whose TGAs
are upside down by TGA's own specification, and for Pillow and ffmpeg, and are therefore left out.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / 'golden' / 'imagemagick'

# File name: what is drawn (see `drawn` in test_prepare_corpus.py), convert's options, largest mean
# difference of 8×8 blocks.
CASES: dict[str, tuple[str, str, float]] = {
    'rgb8.png': ('rgb', '-define png:format=png24', 0),
    'rgb16.png': ('rgb', '-depth 16 -define png:format=png48', 1),
    'rgba16.png': ('rgba', '-depth 16 -define png:format=png64', 1),
    'palette.png': ('palette', '-define png:format=png8', 0),
    'grey1.png': ('bits', '-depth 1', 0),
    'grey-alpha.png': ('rgba-grey', '-define png:color-type=4', 1),
    'interlaced.png': ('rgba', '-interlace PNG', 1),
    'sampled-411.jpg': ('rgb', '-sampling-factor 4x1 -quality 92', 8),
    'sampled-440.jpg': ('rgb', '-sampling-factor 1x2 -quality 92', 8),
    'progressive.jpg': ('rgb', '-interlace JPEG -quality 92', 6),
    'grey.jpg': ('grey', '-quality 92', 4),
    'cmyk.jpg': ('rgb', '-colorspace CMYK -quality 95', 4),
    'cmyk.tif': ('rgb', '-colorspace CMYK', 2),
    'zip-predictor.tif': ('rgb', '-compress Zip -define tiff:predictor=2', 0),
    'lzw-16.tif': ('rgb', '-depth 16 -compress LZW', 1),
    'jpeg.tif': ('rgb', '-compress JPEG -quality 95', 6),
    'group4.tif': ('bits', '-monochrome -compress Group4', 0),
    'fax.tif': ('bits', '-monochrome -compress Fax', 0),
    'planes.tif': ('rgb', '-interlace plane', 0),
    'tiles.tif': ('rgba', '-define tiff:tile-geometry=32x32', 1),
    'msb.tif': ('rgb', '-endian MSB', 0),
    'turned.tif': ('turned', '-orient RightTop', 0),
    'rle.bmp': ('palette', '-compress RLE', 0),
    'v2.bmp': ('rgb', '-define bmp:format=bmp2 -type TrueColor', 0),
    'alpha.bmp': ('rgba', '-define bmp:format=bmp4', 1),
    'rgb565.bmp': ('rgb', '-define bmp:subtype=RGB565', 8),
    'gif87.gif': ('palette', '', 0),
    'interlaced.gif': ('palette', '-interlace GIF', 0),
    'lossless.webp': ('rgba', '-define webp:lossless=true -define webp:exact=true', 1),
    'lossy.webp': ('rgb', '-quality 90', 8),
    'layers.psd': ('rgb', '-compress RLE', 0),
    'rle.sgi': ('rgb', '-compress RLE', 0),
    'rgb.pcx': ('rgb', '', 0),
    'plain.dds': ('rgba', '-define dds:compression=none', 1),
    'lossless.jp2': ('rgb', '-quality 100', 1),
    'rgb.ras': ('rgb', '', 0),
    'plain.ppm': ('rgb', '-compress none', 0),
    'deep.ppm': ('rgb', '-depth 16', 1),
    'plain.pbm': ('bits', '-compress none -monochrome', 0),
    'icon.ico': ('rgba', '', 1),
}


def main() -> int:
    from PIL import Image
    from test_prepare_corpus import drawn

    FOLDER.mkdir(exist_ok=True)
    source = FOLDER / 'source.png'
    for name, (kind, options, _) in CASES.items():
        Image.fromarray(drawn(kind)[0]).save(source)
        subprocess.run(
            ['convert', str(source), '-strip', *options.split(), str(FOLDER / name)], check=True
        )
    source.unlink()
    print(sum(path.stat().st_size for path in FOLDER.iterdir()), 'bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
