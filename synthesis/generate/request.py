"""What the options of `generate.py` ask for, and which of them contradict each other. Without
torch, so that mistakes are told at once.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib import UserError
from dnnlib.cli import parse_seeds

from ..video import DEFAULT_QUALITY as VIDEO_QUALITY
from ..video import check_video

# options that decide what is made; without one, pictures
MODES = ('style_mix', 'interpolate', 'sweep', 'sefa')
SEEDS = {'pictures': '0-35', 'sweep': '0', 'sefa': '0-5'}  # by default
BELONGS = {  # option → what it has an effect on; those that are not here have one on everything
    'seeds': ('pictures', 'sweep', 'sefa'),
    'projected_w': ('pictures', 'sweep', 'sefa', 'interpolate'),
    **dict.fromkeys(['outdir', 'format', 'save_w'], ('pictures', 'style_mix', 'sefa')),
    **dict.fromkeys(['video', 'frames', 'fps', 'easing', 'loop'], ('interpolate', 'sweep')),
    **dict.fromkeys(['sefa_scale', 'sefa_layers'], ('sefa',)),
    'grid': ('pictures',),
    'styles': ('style_mix',),
    'space': ('interpolate',),
    'radius': ('sweep',),
}
IN_SWEEPS = {  # what is swept → options that it leaves nothing to do
    'trunc': {'trunc': 'the sweep is over it'},
    'class': {'class_idx': 'the sweep is over it', 'projected_w': 'w does not know its class'},
    'noise': {'noise_mode': 'the sweep makes its own', 'loop': 'it is a loop already'},
    'circle': {'projected_w': 'the circle is in z', 'loop': 'it is a loop already'},
}


@dataclass(frozen=True)
class Request:
    """What to make.

    Attributes:
        mode: `pictures` or one of `MODES`.
        seeds: of pictures, of the rows of SeFa's strips, of the tiles of a sweep; the stops of an
            interpolation; the rows of a mix.
        mix_columns: seeds of the columns of a mix.
        projected_w: files of ws, the stops of an interpolation without seeds.
        layers: which ws come from the columns of a mix, or that SeFa moves; None for what is usual.
        sweep: `trunc`, `noise`, `class` or `circle`.
        stops: psis or classes of the sweep; none for all classes.
        grid: columns and rows of the extra picture.
        quality: None for the format's default.
        The others are the options of these names.
    """

    mode: str
    seeds: list[int]
    projected_w: tuple[Path, ...]
    trunc: float
    class_idx: int | None
    noise_mode: str
    mix_columns: list[int]
    layers: list[int] | None
    space: str
    sweep: str | None
    stops: list[float]
    radius: float
    frames: int
    fps: float
    easing: str
    loop: bool
    sefa: int | None
    sefa_scale: float
    video: Path | None
    outdir: Path | None
    format: str
    quality: int | None
    grid: tuple[int, int] | None
    save_w: bool
    batch: int


def parse_request(options: Mapping[str, Any], given: Collection[str]) -> Request:
    """Understand the options.

    Args:
        options: all of them, by the name of the parameter, defaults included.
        given: the names of those that the user gave.

    Raises:
        UserError: options that contradict each other, or one is missing or can't be read.
    """
    mode = _mode(options, given)
    sweep, stops = _parse_sweep(options['sweep']) if mode == 'sweep' else (None, [])
    _refuse_contradictions(options, given, mode, sweep)
    columns: list[int] = []
    if mode == 'style_mix':
        rows_text, slash, columns_text = options['style_mix'].partition('/')
        if not slash:
            raise UserError(
                f'--style-mix={options["style_mix"]}: seeds of the rows, a slash, '
                f'seeds of the columns, such as 85,100/55,821'
            )
        seeds, columns = (parse_seeds(text, '--style-mix') for text in (rows_text, columns_text))
    elif mode == 'interpolate':
        seeds = _parse_stops(options['interpolate'], options, given)
    else:
        seeds = parse_seeds(SEEDS[mode] if options['seeds'] is None else options['seeds'])
    layers = {'style_mix': 'styles', 'sefa': 'sefa_layers'}.get(mode)
    return Request(
        mode,
        seeds,
        mix_columns=columns,
        sweep=sweep,
        stops=stops,
        grid=_parse_grid(options['grid']),
        layers=None
        if layers is None or options[layers] is None
        else sorted({*parse_seeds(options[layers], _flag(layers))}),
        **{
            name: options[name]
            for name in (
                'projected_w',
                'trunc',
                'class_idx',
                'noise_mode',
                'space',
                'radius',
                'frames',
                'fps',
                'easing',
                'loop',
                'sefa',
                'sefa_scale',
                'video',
                'outdir',
                'format',
                'quality',
                'save_w',
                'batch',
            )
        },
    )


def _flag(name: str) -> str:
    return '--class' if name == 'class_idx' else f'--{name.replace("_", "-")}'


def _shown(name: str, value: Any) -> str:
    value = value[0] if isinstance(value, tuple) else value
    return _flag(name) if value is True else f'{_flag(name)}={value}'


def _parse_stops(text: str, options: Mapping[str, Any], given: Collection[str]) -> list[int]:
    """The seeds of an interpolation; none where it goes through the ws of files."""
    if text == 'w':
        if not options['projected_w']:
            raise UserError(
                '--interpolate=w needs --projected-w: the files whose ws it goes through'
            )
        if 'space' in given:
            raise UserError(
                f'--interpolate=w and --space={options["space"]} contradict: it goes straight in w'
            )
        return []
    if options['projected_w']:
        shown = _shown('projected_w', options['projected_w'])
        raise UserError(
            f'--interpolate={text} and {shown} contradict: seeds, or --interpolate=w for the files'
        )
    seeds = parse_seeds(text, '--interpolate')
    if len(seeds) < 2:
        raise UserError(f'--interpolate={text}: two seeds at least, such as 1,2,3,1')
    return seeds


def _mode(options: Mapping[str, Any], given: Collection[str]) -> str:
    modes = [name for name in MODES if name in given]
    if len(modes) > 1:
        raise UserError(
            f'{_flag(modes[0])} and {_flag(modes[1])} make different things; choose one'
        )
    mode = modes[0] if modes else 'pictures'
    for name in given:
        wanted = BELONGS.get(name, (mode,))
        if mode not in wanted:
            places = ['plain pictures' if other == 'pictures' else _flag(other) for other in wanted]
            if mode == 'pictures':
                raise UserError(
                    f'{_shown(name, options[name])} does nothing without {" or ".join(places)}'
                )
            raise UserError(
                f'{_flag(mode)} and {_shown(name, options[name])} contradict: '
                f'{_flag(name)} is for {", ".join(places)}'
            )
    needed, what = (
        ('outdir', 'the folder for the pictures')
        if mode in BELONGS['outdir']
        else ('video', 'the .mp4 or .gif to write')
    )
    if options[needed] is None:
        raise UserError(f'{_flag(needed)} is missing: {what}')
    return mode


def _refuse_contradictions(
    options: Mapping[str, Any], given: Collection[str], mode: str, sweep: str | None
) -> None:
    """Those between two given options that each have an effect in this mode."""
    pairs = [('projected_w', other, 'w is made already') for other in ('seeds', 'class_idx')]
    pairs += [('sweep', other, why) for other, why in IN_SWEEPS.get(sweep or '', {}).items()]
    for one, other, why in pairs:
        if one in given and other in given:
            raise UserError(
                f'{_shown(one, options[one])} and {_shown(other, options[other])} contradict: {why}'
            )
    if 'radius' in given and sweep != 'circle':
        raise UserError(f'--radius={options["radius"]:g} does nothing without --sweep=circle')
    if not 0 < options['radius'] <= 1:
        raise UserError(f'--radius={options["radius"]:g}: more than 0, at most 1')
    if options['noise_mode'] == 'loop' and mode not in BELONGS['video']:
        raise UserError('--noise-mode=loop does nothing without --interpolate or --sweep')
    video = options['video']
    if video is not None:
        check_video(video, options['fps'], options['quality'] or VIDEO_QUALITY)
    if options['quality'] is not None:
        if video is not None and video.suffix.lower() == '.gif':
            raise UserError(
                f'--quality={options["quality"]} and --video={video} contradict: a GIF '
                f'has no quality to choose'
            )
        if video is None and options['format'] == 'png':
            raise UserError(
                f'--quality={options["quality"]} and --format=png contradict: a PNG '
                f'loses nothing; try jpg'
            )


def _parse_sweep(text: str) -> tuple[str, list[float]]:
    """`trunc=-1:1`, `noise`, `circle`, `class` or `class=0,2,1`."""
    kind, equals, values = text.partition('=')
    try:
        if kind == 'trunc':
            stops = [float(value) for value in values.split(':')]
            if len(stops) >= 2 and all(map(math.isfinite, stops)):
                return kind, stops
        elif kind == 'class' and equals:
            stops = [int(value) for value in values.split(',')]
            if len(stops) >= 2:
                return kind, stops
        elif text in ('class', 'noise', 'circle'):
            return kind, []
    except ValueError:
        pass
    raise UserError(
        f'--sweep={text}: trunc=-1:1 (two or more psis), noise, circle, class (all of '
        f'them), or class=0,2,1'
    )


def _parse_grid(text: str | None) -> tuple[int, int] | None:
    """`6x4` to columns and rows."""
    if text is None:
        return None
    match = re.fullmatch(r'([1-9]\d{0,3})[x×]([1-9]\d{0,3})', text)
    if match is None:
        raise UserError(f'--grid={text}: columns x rows, such as 6x6')
    return int(match[1]), int(match[2])
