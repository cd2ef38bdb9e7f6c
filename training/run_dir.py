"""Run folders: their names, and the settings in them."""

import json
import re
from pathlib import Path

from dnnlib import UserError

from .config import TrainingConfig, run_name


def make_run_dir(outdir: Path, config: TrainingConfig) -> Path:
    """A new folder `00000-NAME` with the next free number, and `training_options.json` in it.

    Raises:
        UserError: it can't be made.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        numbers = [int(match[0]) for entry in outdir.iterdir() if (match := re.match(r'\d+', entry.name))]
        path = outdir / f'{max(numbers, default=-1) + 1:05d}-{run_name(config)}'
        path.mkdir()
    except OSError as error:
        raise UserError(f'--outdir={outdir}: cannot be written: {error.strerror or error}') from error
    save_options(path, config)
    return path


def save_options(run_dir: Path, config: TrainingConfig) -> None:
    """Write `training_options.json`."""
    (run_dir / 'training_options.json').write_text(options_text(config) + '\n', encoding='utf-8')


def options_text(config: TrainingConfig) -> str:
    """The settings as readable JSON."""
    return json.dumps(config.to_dict(), indent=2)
