"""From any pile of pictures to a data set that StyleGAN2 trains on: one function,
`prepare_dataset`, and its parts.

`sources` finds out what a path is, `containers` reads folders, zips and tars, `known_sets` and
`streams` what holds no picture files, `label_sources` says what a picture shows; `decode` and `colour`
turn bytes into RGB, `crop` and `resize` make a square of one size, `writer` writes, `audit` tells
what became of each file, `workers` spreads the work over the cores, `options` joins what was asked
for, and `prepare` is the loop. Where faces are to be cut out, `faces` finds them or `landmarks`
reads where they are, `align` cuts, and `sheet` shows what was cut.
"""

from .image.crop import FITS, Conversion
from .image.resize import RESIZE_FILTERS
from .prepare import Alignment, Policy, Report, prepare_dataset
from .sources import PictureSource, open_sources

__all__ = [
    'FITS',
    'RESIZE_FILTERS',
    'Alignment',
    'Conversion',
    'PictureSource',
    'Policy',
    'Report',
    'open_sources',
    'prepare_dataset',
]
