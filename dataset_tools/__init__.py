"""Make data sets for StyleGAN2 from pictures of any kind: `prepare_dataset`, whose module says in
which order the parts work.
"""

from .image.crop import FITS, Conversion
from .image.resize import RESIZE_FILTERS
from .prepare import Alignment, Policy, prepare_dataset
from .sources import PictureSource, open_sources
from .summary import Report

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
