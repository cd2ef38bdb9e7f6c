"""Report the results of a comparison: as JSON, sentences, a table, and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from torch_utils.image_io import labelled_table

from .compare import Result
from .metric import Metric

_COLOURS = ('#4e79a7', '#f28e2b', '#59a14f', '#e15759', '#76b7b2', '#b07aa1', '#9c755f', '#edc948')
_BAR, _HEIGHT, _MARGIN = 56, 220, 24  # of a plot, pixels
_PAIRS_A_ROW = 4


def as_json(
    result: Result, metrics: Sequence[Metric], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is needed to get the same numbers again; a result that is infinite is None, for
    which JSON has a word.
    """
    detectors = list(result.detectors.values())
    first = next(iter(result.nums.values()), (None, None))
    values = {key: value if np.isfinite(value) else None for key, value in result.values.items()}
    facts: dict[str, Any] = {
        'results': values,
        **settings,
        'num_real': first[0],
        'num_fake': first[1],
        'nums': {name: dict(zip(('real', 'fake'), nums)) for name, nums in result.nums.items()},
    }
    for detector in detectors[:1]:
        facts |= {
            'detector': detector.name,
            'detector_sha256': detector.sha256,
            'protocol': detector.protocol.name,
            'precision': detector.precision,
            'resize': detector.resize,
            'quantisation': '8 bits, before resizing',
            'covariance_divisor': detector.protocol.divisor,
        }
    if len(detectors) > 1:
        facts['detectors'] = {
            metric.name: [metric.detector, result.detectors[metric.detector].sha256]
            for metric in metrics
            if metric.detector
        }
    return facts | {
        f'{side}_{key}': value
        for side, known in sorted(result.facts.items(), reverse=True)
        for key, value in known.items()
    }


def as_lines(result: Result, metrics: Sequence[Metric]) -> list[str]:
    """A sentence a metric."""
    lines = []
    for metric in metrics:
        values = {
            key[len(metric.name) :]: value
            for key, value in result.values.items()
            if key in _keys(metric)
        }
        text = metric.kind.describe(metric.name, metric.detector, values)
        counts = [
            f'{"?" if num is None else f"{num:,}"} {side}'
            for num, side in zip(result.nums[metric.name], ('real', 'fake'))
            if side == 'fake' or metric.kind.needs_reals
        ]
        lines.append(f'{text}, {better(metrics, metric.main[0])} ({", ".join(counts)} pictures)')
    return lines


def better(metrics: Sequence[Metric], key: str) -> str:
    """Say which way a number gets better; nothing for a spread."""
    for metric in metrics:
        if key in metric.directions:
            return 'higher is better' if metric.directions[key] else 'lower is better'
    return ''


def as_text(
    results: Mapping[str, Result], metrics: Sequence[Metric], *, is_table: bool
) -> list[str]:
    """Return `as_table` of all results, or `as_lines` of the only one."""
    if is_table:
        return as_table(results, metrics)
    return as_lines(next(iter(results.values())), metrics)


def as_table(results: Mapping[str, Result], metrics: Sequence[Metric]) -> list[str]:
    """A line a fake set, a column a number; an arrow in the heading points to the better side."""
    keys = list(next(iter(results.values())).values)
    arrows = {'higher is better': ' ↑', 'lower is better': ' ↓', '': ''}
    headings = [key + arrows[better(metrics, key)] for key in keys]
    rows = [
        ['', *headings],
        *(
            [label, *(f'{result.values[key]:.6g}' for key in keys)]
            for label, result in results.items()
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(keys) + 1)]
    return [
        '  '.join(
            [
                row[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(row[1:], widths[1:])),
            ]
        )
        for row in rows
    ]


def plot(results: Mapping[str, Result], metrics: Sequence[Metric]) -> np.ndarray:
    """Bars: a panel a number, a bar a fake set, with a whisker of one standard deviation where
    there is one.

    Returns:
        uint8 `[height, width, 3]`.
    """
    panels = [
        (
            key,
            [result.values[key] for result in results.values()],
            [_spread(result, key) for result in results.values()],
        )
        for metric in metrics
        for key in _keys(metric)
        if not key.endswith('_std')
        and all(np.isfinite(result.values.get(key, np.nan)) for result in results.values())
    ]
    font = ImageFont.load_default(13)
    titles = ['higher is better', *(key for key, _, _ in panels)]
    widest = (
        max([_BAR * len(results), *(int(font.getlength(title)) for title in titles)]) + 2 * _MARGIN
    )
    legend = [f'{number}  {label}' for number, label in enumerate(results, 1)]
    width = max(widest * len(panels), *(int(font.getlength(text)) + 3 * _MARGIN for text in legend))
    page = Image.new('RGB', (width, _HEIGHT + 5 * _MARGIN + len(legend) * 20), 'white')
    draw = ImageDraw.Draw(page)
    for number, (key, values, spreads) in enumerate(panels):
        _panel(
            draw, number * widest + _MARGIN, f'{key}\n{better(metrics, key)}', values, spreads, font
        )
    for number, text in enumerate(legend):
        y = _HEIGHT + 4 * _MARGIN + number * 20
        draw.rectangle(
            (_MARGIN, y + 2, _MARGIN + 12, y + 14), fill=_COLOURS[number % len(_COLOURS)]
        )
        draw.text((_MARGIN + 20, y), text, fill='black', font=font)
    return np.asarray(page)


def nearest_page(result: Result) -> np.ndarray:
    """Each fake beside its nearest real picture, the nearest first: uint8 `[height, width, 3]`."""
    assert result.pairs_of is not None, 'pairs were asked for'
    height, width = result.pairs[0][1].shape[1:]

    def picture(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(
            Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        ).transpose(2, 0, 1)

    rows = {}
    for start in range(0, len(result.pairs), _PAIRS_A_ROW):
        pairs, pictures = result.pairs[start : start + _PAIRS_A_ROW], []
        for _, fake, place in pairs:
            pictures += [
                picture(fake.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()),
                picture(result.pairs_of.load(place)),
            ]
        rows[f'{start + 1}.  {pairs[0][0]:.3g} to {pairs[-1][0]:.3g}'] = np.stack(pictures)
    headings = ['generated', 'nearest real'] * min(_PAIRS_A_ROW, len(result.pairs))
    return labelled_table(
        rows, headings, ['Before each row the distances of its pairs, in feature space.']
    )


def _keys(metric: Metric) -> list[str]:
    return [metric.name + suffix for suffix in (*metric.kind.results, '_std')]


def _spread(result: Result, key: str) -> float:
    return result.values.get(f'{key.removesuffix("_mean")}_std', 0.0)


def _panel(
    draw: ImageDraw.ImageDraw,
    left: int,
    title: str,
    values: Sequence[float],
    spreads: Sequence[float],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    high = max([0.0, *(value + spread for value, spread in zip(values, spreads))])
    low = min([0.0, *(value - spread for value, spread in zip(values, spreads))])
    top, scale = 3 * _MARGIN, _HEIGHT / ((high - low) or 1.0)

    def y(value: float) -> float:
        return top + (high - value) * scale

    draw.text((left, 4), title, fill='black', font=font)
    for number, (value, spread) in enumerate(zip(values, spreads)):
        x = left + number * _BAR + 6
        colour = _COLOURS[number % len(_COLOURS)]
        draw.rectangle((x, min(y(value), y(0)), x + _BAR - 12, max(y(value), y(0))), fill=colour)
        middle = x + (_BAR - 12) // 2
        if spread:
            draw.line((middle, y(value + spread), middle, y(value - spread)), fill='black', width=2)
            for end in (value + spread, value - spread):
                draw.line((middle - 6, y(end), middle + 6, y(end)), fill='black', width=2)
        draw.text(
            (middle, y(max(value + spread, 0)) - 3),
            f'{value:.3g}',
            fill='black',
            font=font,
            anchor='mb',
        )
        draw.text(
            (middle, top + _HEIGHT + 6), str(number + 1), fill='black', font=font, anchor='mt'
        )
    draw.line((left, y(0), left + len(values) * _BAR, y(0)), fill='black')
