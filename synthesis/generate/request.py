"""Parse the options of `generate.py` and refuse contradictions. Imports no torch, so that an error
appears at once.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from dnnlib import UserError
from dnnlib.cli import parse_seeds

from ..video import DEFAULT_QUALITY as VIDEO_QUALITY
from ..video import check_video

Mode = Literal['pictures', 'style_mix', 'interpolate', 'sweep', 'sefa']
Sweep = Literal['trunc', 'class', 'noise', 'circle']

# options that choose the mode; without one it is `pictures`
MODES: tuple[Mode, ...] = ('style_mix', 'interpolate', 'sweep', 'sefa')
SEEDS: dict[Mode, str] = {'pictures': '0-35', 'sweep': '0', 'sefa': '0-5'}  # by default
BELONGS: dict[str, tuple[Mode, ...]] = {  # option → modes it belongs to; the others to all
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
IN_SWEEPS: dict[Sweep, dict[str, str]] = {  # what is swept → options without an effect, and why
    'trunc': {'trunc': 'the sweep is over it'},
    'class': {'class_idx': 'the sweep is over it', 'projected_w': 'w does not know its class'},
    'noise': {'noise_mode': 'the sweep makes its own', 'loop': 'it is a loop already'},
    'circle': {'projected_w': 'the circle is in z', 'loop': 'it is a loop already'},
}


@dataclass(frozen=True)
class Request:
    """What `generate.py` is to make.

    Attributes:
        mode: the kind of files.
        seeds: of pictures, of the rows of SeFa's strips, of the tiles of a sweep; the stops of an
            interpolation; the rows of a mix.
        mix_columns: seeds of the columns of a mix.
        projected_w: files of ws, the stops of an interpolation without seeds.
        layers: which ws come from the columns of a mix, or that SeFa moves; None for what is usual.
        sweep: what a sweep changes; None in the other modes.
        stops: psis or classes of the sweep; none for all classes.
        grid: columns and rows of the extra picture.
        quality: None for the format's default.
        The others are the options of these names.
    """

    mode: Mode
    seeds: list[int]
    projected_w: tuple[Path, ...]
    trunc: float
    class_idx: int | None
    noise_mode: Literal['const', 'random', 'none', 'loop']
    mix_columns: list[int]
    layers: list[int] | None
    space: Literal['w', 'z']
    sweep: Sweep | None
    stops: list[float]
    radius: float
    frames: int
    fps: float
    easing: Literal['linear', 'smooth', 'circular']
    loop: bool
    sefa: int | None
    sefa_scale: float
    video: Path | None
    outdir: Path | None
    format: Literal['png', 'jpg', 'webp']
    quality: int | None
    grid: tuple[int, int] | None
    save_w: bool
    batch: int


def parse_request(options: Mapping[str, Any], given: Collection[str]) -> Request:
    """Parse the options.

    Args:
        options: all of them, by the name of the parameter, defaults included.
        given: the names of those that the user gave.

    Raises:
        UserError: options that contradict each other, or one is missing or can't be read.
    """
    mode = _choose_mode(options, given)
    sweep: Sweep | None = None
    stops: list[float] = []
    if mode == 'sweep':
        sweep, stops = _parse_sweep(options['sweep'])
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
    as_given = {
        field.name: options[field.name] for field in fields(Request) if field.name in options
    }
    parsed = {
        'mode': mode,
        'seeds': seeds,
        'mix_columns': columns,
        'layers': _parse_layers(options, mode),
        'sweep': sweep,
        'stops': stops,
        'grid': _parse_grid(options['grid']),
    }
    return Request(**{**as_given, **parsed})


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


def _choose_mode(options: Mapping[str, Any], given: Collection[str]) -> Mode:
    modes = [name for name in MODES if name in given]
    if len(modes) > 1:
        raise UserError(
            f'{_flag(modes[0])} and {_flag(modes[1])} make different things; choose one'
        )
    mode: Mode = modes[0] if modes else 'pictures'
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
    options: Mapping[str, Any], given: Collection[str], mode: Mode, sweep: Sweep | None
) -> None:
    """Refuse two given options that contradict each other, though each has an effect alone."""
    pairs = [('projected_w', other, 'w is made already') for other in ('seeds', 'class_idx')]
    if sweep is not None:
        pairs += [('sweep', other, why) for other, why in IN_SWEEPS[sweep].items()]
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


def _parse_sweep(text: str) -> tuple[Sweep, list[float]]:
    """Parse `trunc=-1:1`, `noise`, `circle`, `class` or `class=0,2,1`."""
    kind, equals, values = text.partition('=')
    try:
        if kind == 'trunc':
            stops = [float(value) for value in values.split(':')]
            if len(stops) >= 2 and all(map(math.isfinite, stops)):
                return 'trunc', stops
        elif kind == 'class' and equals:
            stops = [int(value) for value in values.split(',')]
            if len(stops) >= 2:
                return 'class', stops
        else:
            for sweep in get_args(Sweep):
                if text == sweep != 'trunc':
                    return sweep, []
    except ValueError:
        pass
    raise UserError(
        f'--sweep={text}: trunc=-1:1 (two or more psis), noise, circle, class (all of '
        f'them), or class=0,2,1'
    )


def _parse_layers(options: Mapping[str, Any], mode: Mode) -> list[int] | None:
    """The layers of --styles or --sefa-layers; None for what is usual."""
    name = {'style_mix': 'styles', 'sefa': 'sefa_layers'}.get(mode)
    if name is None or options[name] is None:
        return None
    return sorted({*parse_seeds(options[name], _flag(name))})


def _parse_grid(text: str | None) -> tuple[int, int] | None:
    """Parse `6x4` to columns and rows."""
    if text is None:
        return None
    match = re.fullmatch(r'([1-9]\d{0,3})[x×]([1-9]\d{0,3})', text)
    if match is None:
        raise UserError(f'--grid={text}: columns x rows, such as 6x6')
    return int(match[1]), int(match[2])
