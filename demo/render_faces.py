"""Render seeded cartoon faces in two looks: the pictures that the demo learns from.

`plain` draws people with the avatars of the `python-avatars` package; `toon` draws the very same
people as goblins, with a wider head, pointed ears, big eyes, thick outlines and a palette of its
own, by editing the avatar's SVG. Face number i of a seed has the same features in both looks, and
both keep the head in the same place, so the two folders are aligned pairs. Features are chosen to
survive 32x32 pixels and to be few enough for a GAN that trains for minutes.
"""

import io
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import click
from PIL import Image

# run as a file: Python put demo/ on the path, not the folder above it
if __name__ in ('__main__', '__mp_main__'):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dnnlib import UserError
from dnnlib.cli import command, option, progress, run

STYLES = ('plain', 'toon')
# raise it whenever the same parameters would draw other pictures, so that old folders aren't reused
DRAWING = 3

# Names of the package's enums, each with a weight.
HAIRS = {
    'SHORT_FLAT': 3,
    'SHORT_WAVED': 3,
    'BOB': 3,
    'MIA_WALLACE': 2,
    'CURLY': 2,
    'FRO': 2,
    'BUN': 2,
}
EYES = {'DEFAULT': 4, 'SURPRISED': 3, 'HAPPY': 1}
BROWS = {'DEFAULT': 3, 'RAISED_EXCITED': 2, 'ANGRY': 2}
MOUTHS = {'SMILE': 4, 'TWINKLE': 3, 'SERIOUS': 1, 'DISBELIEF': 1}
BEARDS = {'NONE': 4, 'BEARD_MEDIUM': 1}  # under short hair only
# few: glasses are the hardest thing to learn at 32 px
ACCESSORIES = {'NONE': 14, 'PRESCRIPTION_2': 1}

# Colours go by position: skin 2 of one look is the same person as skin 2 of the other.
SKINS = {
    'plain': ('#FFDBB4', '#EDB98A', '#D08B5B', '#AE5D29', '#83573F'),
    'toon': ('#C6E86B', '#6CCB5F', '#2FB7A3', '#5B8DEF', '#A77BE8'),
}
HAIR_COLORS = {
    'plain': ('#2C1B18', '#724133', '#A55728', '#E0B860', '#C93305', '#D9D4D4'),
    'toon': ('#12C4F0', '#FF2E93', '#FF8A1F', '#FFE93B', '#E3173E', '#F6F6FF'),
}
SHIRT_COLORS = {
    'plain': ('#5199E4', '#3C4F5C', '#E5586B', '#8FC79A'),
    'toon': ('#2B1B4D', '#7A1E5C', '#B8441F', '#12506B'),
}
BACKGROUNDS = {'plain': '#EEF2F7', 'toon': '#C9B8F0'}
INK = '#3A2466'
SHORT_HAIRS = ('SHORT_FLAT', 'SHORT_WAVED')

# of the avatar's 264x280: from the top of the hair to below the chin, nose in the middle
VIEW_BOX = '40 17 184 184'
SVG = '{http://www.w3.org/2000/svg}'
HREF = '{http://www.w3.org/1999/xlink}href'


@dataclass(frozen=True)
class Face:
    """What one face looks like, whatever the look: names of the package's parts, positions in the
    palettes.
    """

    hair: str
    eyes: str
    brows: str
    mouth: str
    beard: str
    accessory: str
    skin: int
    hair_color: int
    shirt_color: int


def sample_face(seed: int, index: int) -> Face:
    """Return face number `index` of a seed, which does not depend on how many faces there are."""
    # strings are hashed by SHA-512: the same on every machine and version
    rng = random.Random(f'{seed}/{index}')

    def pick(weights: dict[str, int]) -> str:
        return rng.choices(list(weights), weights=list(weights.values()))[0]

    hair, beard = pick(HAIRS), pick(BEARDS)
    return Face(
        hair=hair,
        eyes=pick(EYES),
        brows=pick(BROWS),
        mouth=pick(MOUTHS),
        beard=beard if hair in SHORT_HAIRS else 'NONE',
        accessory=pick(ACCESSORIES),
        skin=rng.randrange(len(SKINS['plain'])),
        hair_color=rng.randrange(len(HAIR_COLORS['plain'])),
        shirt_color=rng.randrange(len(SHIRT_COLORS['plain'])),
    )


def face_svg(face: Face, style: str) -> str:
    """Draw a face.

    Args:
        face: its features.
        style: 'plain' or 'toon'.

    Returns:
        A square SVG document without a background.
    """
    import python_avatars as pa

    skin, hair_color = SKINS[style][face.skin], HAIR_COLORS[style][face.hair_color]
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=pa.HairType[face.hair],
        eyebrows=pa.EyebrowType[face.brows],
        eyes=pa.EyeType[face.eyes],
        nose=pa.NoseType.DEFAULT,
        mouth=pa.MouthType[face.mouth],
        facial_hair=pa.FacialHairType[face.beard],
        skin_color=skin,
        hair_color=hair_color,
        facial_hair_color=hair_color,
        accessory=pa.AccessoryType[face.accessory],
        clothing=pa.ClothingType.SHIRT_CREW_NECK,
        clothing_color=SHIRT_COLORS[style][face.shirt_color],
    )
    root = ElementTree.fromstring(avatar.render())
    for name in ('width', 'height'):
        root.attrib.pop(name)
    root.set('viewBox', VIEW_BOX)
    for group in list(root.iter(f'{SVG}g')):
        _fill_directly(group)
    for name in ('Mouth', 'Eyebrow', 'Eyes'):
        for element in _part(root, name).iter():
            # black at 60 % is nearly nothing on dark skin and two pixels
            element.attrib.pop('fill-opacity', None)
    _stretch(_part(root, 'Mouth'), 54, 18, 1.3, 1.3)
    if style == 'toon':
        _make_toon(root, face, skin)
    else:
        _stretch(_part(root, 'Eyes'), 56, 22, 1.2, 1.3)
        _stretch(_part(root, 'Eyebrow'), 56, 10, 1.1, 1.3)
    return ElementTree.tostring(root, encoding='unicode')


def render_face(face: Face, style: str, size: int) -> bytes:
    """Draw a face as a PNG file's bytes: RGB, `size` pixels wide and high."""
    import resvg_py

    drawn = resvg_py.svg_to_bytes(
        svg_string=face_svg(face, style),
        background=BACKGROUNDS[style],
        width=size,
        height=size,
        skip_system_fonts=True,
    )
    file = io.BytesIO()
    # resvg writes an alpha channel, opaque here
    Image.open(io.BytesIO(drawn)).convert('RGB').save(file, 'png')
    return file.getvalue()


def _part(root: ElementTree.Element, name: str) -> ElementTree.Element:
    """The avatar's group of that name, as `Eyes` or `Top`."""
    return next(
        element for element in root.iter(f'{SVG}g') if element.get('id') == f'transparent_{name}'
    )


def _stretch(
    group: ElementTree.Element, x: float, y: float, scale_x: float, scale_y: float
) -> None:
    """Scale a group about a point of its own coordinates."""
    scaling = f'translate({x} {y}) scale({scale_x} {scale_y}) translate({-x} {-y})'
    group.set('transform', f'{group.get("transform", "")} {scaling}'.strip())


def _fill_directly(parent: ElementTree.Element) -> None:
    """Colour shapes themselves, not by a rectangle masked by the shape: fewer masks render faster
    and leave no pale rims.
    """
    children = list(parent)
    for shape, colour in zip(children, children[1:]):
        if (
            shape.tag == f'{SVG}use'
            and colour.get('id', '').endswith('-Color')
            and colour.get('mask')
        ):
            shape.set('fill', colour.get('fill', ''))
            parent.remove(colour)


def _make_toon(root: ElementTree.Element, face: Face, skin: str) -> None:
    """Turn the drawing of a person into one of a goblin."""
    mouth = set(_part(root, 'Mouth').iter())  # small enough without a line
    for group in [group for group in root.iter(f'{SVG}g') if group not in mouth]:
        _outline(group)
    _stretch(_part(root, 'Eyebrow'), 56, 24, 1.15, 1.6)
    eyes = _part(root, 'Eyes')
    for child in list(eyes):
        eyes.remove(child)
    for x in (30, 82):
        eyes.extend(_toon_eye(face.eyes, x))
    whole = _part(root, 'Avataaar/Default')
    for side in (1, -1):
        ElementTree.SubElement(
            whole,
            f'{SVG}path',
            {
                'd': 'M-54,-12 Q-70,-30 -80,-34 Q-80,6 -56,24 Z',
                'fill': skin,
                'stroke': INK,
                'stroke-width': '3',
                'stroke-linejoin': 'round',
                'transform': f'translate(132 112) scale({side} 1)',
            },
        )
    _stretch(whole, 132, 112, 1.12, 0.95)


def _outline(parent: ElementTree.Element) -> None:
    """Draw a line round each shape of a group; shapes are a `use`, with what is masked by it after
    it.
    """
    children = list(parent)
    for place in reversed(range(len(children))):
        shape = children[place]
        if shape.tag != f'{SVG}use' or shape.get('filter'):
            continue
        end = place + 1
        while end < len(children) and children[end].get('mask'):
            end += 1
        line = {
            'fill': 'none',
            'stroke': INK,
            'stroke-width': '3',
            'stroke-linejoin': 'round',
            HREF: shape.get(HREF),
        }
        if shape.get('transform'):
            line['transform'] = shape.get('transform')
        parent.insert(end, ElementTree.Element(f'{SVG}use', line))


def _toon_eye(kind: str, x: float) -> Iterator[ElementTree.Element]:
    def circle(y: float, radius: float, fill: str, **more: str) -> ElementTree.Element:
        return ElementTree.Element(
            f'{SVG}circle', {'cx': str(x), 'cy': str(y), 'r': str(radius), 'fill': fill, **more}
        )

    if kind == 'HAPPY':
        yield ElementTree.Element(
            f'{SVG}path',
            {
                'd': f'M{x - 17},28 Q{x},0 {x + 17},28',
                'fill': 'none',
                'stroke': INK,
                'stroke-width': '8',
                'stroke-linecap': 'round',
            },
        )
        return
    yield circle(20, 21, '#FFFFFF', stroke=INK, **{'stroke-width': '2'})
    yield circle(20, 8 if kind == 'SURPRISED' else 13, INK)


def render_folder(
    out: Path, style: str, count: int, size: int, seed: int, workers: int | None = None
) -> bool:
    """Render faces 0 … `count` - 1 of a seed as `out/face00000.png` and so on, with
    `out/params.json` beside them.

    The folder gets its name when it is complete, so what stands at `out` is never half of a set.

    Args:
        out: the folder to make.
        style: 'plain' or 'toon'.
        count: how many faces.
        size: their width and height in pixels.
        seed: same seed, same faces, in both styles.
        workers: processes to render with; as many as there are cores when None.

    Returns:
        False if `out` holds just these pictures already and nothing was done.

    Raises:
        UserError: `out` holds something else or can't be written, or the drawing packages are
            missing.
    """
    params = {'style': style, 'count': count, 'size': size, 'seed': seed, 'drawing': DRAWING}
    if _is_done(out, params):
        return False
    _check_packages()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.', suffix='.tmp'))
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    try:
        _render_all(
            partial(_write_face, temp, style, size, seed),
            count,
            f'{style} faces',
            workers or os.cpu_count() or 1,
        )
        (temp / 'params.json').write_text(json.dumps(params, indent=2) + '\n', encoding='utf-8')
        temp.chmod(0o755)  # mkdtemp's 0700 is not what a shared folder should have
        if out.is_dir():
            out.rmdir()  # empty, as _is_done found
        temp.replace(out)
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return True


def _is_done(out: Path, params: dict[str, object]) -> bool:
    """Whether `out` holds the pictures of these parameters; False where there is nothing yet."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / 'params.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        found = None
    if found == params and len(list(out.glob('face*.png'))) == params['count']:
        return True
    raise UserError(
        f'--out={out} exists and holds something else than {params["count"]} '
        f'{params["style"]} faces of {params["size"]} '
        f'pixels and seed {params["seed"]}: remove it or name another folder'
    )


def _check_packages() -> None:
    try:
        import python_avatars  # noqa: F401
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"drawing the faces needs the package {error.name}: pip install '.[demo]'"
        ) from error


def _write_face(folder: Path, style: str, size: int, seed: int, index: int) -> None:
    (folder / f'face{index:05d}.png').write_bytes(
        render_face(sample_face(seed, index), style, size)
    )


def _render_all(write: Callable[[int], None], count: int, desc: str, workers: int) -> None:
    if workers == 1 or count < 200:  # starting processes takes longer than this
        for index in progress(range(count), desc=desc, unit='img'):
            write(index)
        return
    # spawn: the same on every platform, and safe where the caller runs threads
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn')) as pool:
        try:
            for _ in progress(
                pool.map(write, range(count), chunksize=25), total=count, desc=desc, unit='img'
            ):
                pass
        except BaseException:  # Ctrl-C too: don't render the rest first
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@command(name='render_faces')
@option(
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    help='Folder to make; must not exist, or be empty, or be this very set.',
)
@option(
    '--style',
    type=click.Choice(STYLES),
    default='plain',
    help='plain: people. toon: the same people as goblins.',
)
@option('--count', type=click.IntRange(1, 100_000), default=2000, help='How many faces.')
@option('--size', type=click.IntRange(16, 1024), default=64, help='Width and height in pixels.')
@option(
    '--seed', type=int, default=0, help='Face number i of a seed is the same person in both styles.'
)
@option(
    '--workers', type=click.IntRange(1), show_default='one a core', help='Processes to render with.'
)
def main(out: Path, style: str, count: int, size: int, seed: int, workers: int | None) -> None:
    """Render random cartoon faces, aligned, in one of two looks.

    The same options render the same files. A folder that holds them already is left as it is.

    \b
    Examples:
      python demo/render_faces.py --out=out/plain --count=2000
      python demo/render_faces.py --out=out/toon --style=toon --count=200
    """
    start = time.monotonic()
    if render_folder(out, style, count, size, seed, workers):
        seconds = time.monotonic() - start
        click.echo(
            f'{out}: {count} {style} faces, {size}x{size}, seed {seed}, in {seconds:.1f} s '
            f'({count / seconds:.0f} img/s)'
        )
    else:
        click.echo(f'{out}: holds these {count} {style} faces already; nothing to do')


if __name__ == '__main__':
    sys.exit(run(main))
