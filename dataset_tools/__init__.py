"""From any pile of pictures to a data set that StyleGAN2 trains on: one function, `prepare_dataset`, and its parts.

`sources` lists and reads, `decode` turns bytes into RGB, `crop` makes a square of one size, `archive` writes, `workers`
spreads the work over the cores, and `prepare` is the loop that joins them. Where faces are to be cut out, `faces` finds them
or `landmarks` reads where they are, `align` cuts, and `sheet` shows what was cut.
"""

from .crop import FITS, RESIZE_FILTERS, Conversion
from .prepare import Alignment, Report, prepare_dataset
from .sources import PictureSource

__all__ = ['FITS', 'RESIZE_FILTERS', 'Alignment', 'Conversion', 'PictureSource', 'Report', 'prepare_dataset']
