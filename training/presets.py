"""Load what `--cfg` names: a preset of `configs/`, or a YAML file with the same keys."""

import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dnnlib import UserError

MAX_BYTES = 1 << 20  # of a file of settings

# Pattern of a name that other projects have → what to take instead.
FOREIGN = {
    r'11gb-gpu.*': 'nearest is --cfg=stylegan2 --batch=4',
    r'24gb-gpu.*': 'nearest is --cfg=stylegan2 --batch=8',
    r'48gb-gpu.*': 'nearest is --cfg=stylegan2 --batch=16',
    r'aydao': 'nearest is --cfg=stylegan2 --style-mix=0 --pl-weight=0, for a new network also '
    '--cbase=65536 --cmax=1024 --map-depth=4',
    r'stylegan3.*': 'only StyleGAN2 is supported; take --cfg=stylegan2 or --cfg=auto',
    r'(ffhq|celebahq|lsun|metfaces|afhq).*': 'a snapshot to start from is named with --resume',
}


@dataclass(frozen=True)
class Preset:
    """Settings that a run starts from.

    Attributes:
        name: of the preset, or of the file without its folder: what a run records.
        source: where the settings are written, for errors.
        settings: nested like `TrainingConfig`.
    """

    name: str
    source: str
    settings: dict[str, Any]


def preset_names() -> list[str]:
    """The presets of `configs/`, by name."""
    files = importlib.resources.files('configs').iterdir()
    return sorted(entry.name[:-5] for entry in files if entry.name.endswith('.yaml'))


def load_preset(text: str) -> Preset:
    """Read a preset, or a file of settings.

    Args:
        text: a name of `preset_names`, which comes first, or a path.

    Raises:
        UserError: neither is there, or the file does not hold settings.
    """
    if text in preset_names():
        folder = importlib.resources.files('configs')
        content = folder.joinpath(f'{text}.yaml').read_text(encoding='utf-8')
        return Preset(text, f'configs/{text}.yaml', yaml.safe_load(content) or {})
    path = Path(text).expanduser()
    if path.is_file():
        return Preset(path.name, str(path), _read_file(path))
    if path.suffix in ('.yaml', '.yml') or len(path.parts) > 1:
        raise UserError(f'--cfg={text}: no such file')
    for pattern, answer in FOREIGN.items():
        if re.fullmatch(pattern, text, re.IGNORECASE):
            raise UserError(f'--cfg={text}: there is no such preset here; {answer}')
    names = ', '.join(preset_names())
    raise UserError(f'--cfg={text}: no such preset; there are {names}; or name a .yaml file')


def _read_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f'--cfg={path}: too large for a file of settings')
        settings = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'--cfg={path}: cannot be read: {error.strerror or error}') from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f'--cfg={path}: not a YAML file: {" ".join(str(error).split())}') from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(f'--cfg={path}: it must hold settings, such as batch_size: 16')
    for key in ('preset', 'resume', 'gpus'):  # other settings follow from these
        if key in settings:
            raise UserError(f'--cfg={path}: {key} belongs on the command line, not in this file')
    return settings
