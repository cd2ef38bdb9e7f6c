"""What the options of `train.py` mean: a table of settings, and what follows from some of them."""

from pathlib import Path
from typing import Any

from dnnlib import UserError

from .config import DataConfig, TrainingConfig, build_config, check, merge
from .dataset import ImageFolderDataset

# Option → field of TrainingConfig.
FIELDS = {
    'cond': 'data.cond', 'mirror': 'data.xflip', 'mirrory': 'data.yflip', 'subset': 'data.subset', 'workers': 'data.workers',
    'aug': 'augment.mode', 'p': 'augment.p', 'aug_strength': 'augment.p', 'target': 'augment.target', 'augpipe': 'augment.pipe',
    'freezed': 'network.freeze_layers', 'gamma': 'loss.r1_gamma', 'lrate': 'optimizer.lr', 'batch': 'batch_size', 'batch_gpu': 'batch_gpu',
    'kimg': 'total_kimg', 'nkimg': 'start_kimg', 'tick': 'tick_kimg', 'snap': 'snapshot_ticks', 'seed': 'seed', 'fp32': 'fp32',
    'resume': 'resume', 'data': 'data.path', 'metrics': 'metrics',
}
CHANGEABLE = ('kimg', 'snap', 'metrics')  # when a run is continued; the device is no setting of the run


def new_config(preset: str, given: dict[str, Any], on_cpu: bool) -> tuple[TrainingConfig, ImageFolderDataset]:
    """The settings and the data of a new run.

    Args:
        preset: of `configs/`.
        given: what the user gave, by option.
        on_cpu: pictures are read in the main process unless `workers` says otherwise.

    Raises:
        UserError: options that contradict each other, the preset, or the data.
    """
    if (given.get('aug') == 'fixed') != ('p' in given):
        raise UserError('--aug=fixed needs --p, and --p needs --aug=fixed (--aug-strength is where ada starts)')
    if 'aug_strength' in given and given.get('aug', 'ada') != 'ada':
        raise UserError(f"--aug-strength={given['aug_strength']} is where ada starts; it does nothing with --aug={given['aug']}")
    settings: dict[str, Any] = {'data': {'workers': 0}} if on_cpu else {}
    if 'resume' in given:
        settings.update({'augment': {'kimg': 100.0}, 'ema': {'rampup': None}})  # the networks are past their beginnings
    settings = nest(given, settings)
    dataset = open_dataset(merge(DataConfig(), settings['data'], 'the command line'), given.get('seed', 0))
    return build_config(preset, dataset.resolution, 1, settings), dataset


def continued_config(config: TrainingConfig, given: dict[str, Any]) -> tuple[TrainingConfig, ImageFolderDataset]:
    """The settings and the data of a run that goes on.

    Args:
        config: as the run had them.
        given: what the user gave, by option.

    Raises:
        UserError: an option that can't be changed now, or the data are gone or have changed.
    """
    fixed = [name for name in given if name not in CHANGEABLE]
    if fixed:
        changeable = ', '.join(f'--{name}' for name in (*CHANGEABLE, 'device'))
        raise UserError(f"--{fixed[0].replace('_', '-')} can't be changed when a run is continued; {changeable} can")
    config = check(merge(config, nest(given, {}), 'the command line'))
    return config, open_dataset(config.data, config.seed)


def open_dataset(data: DataConfig, seed: int) -> ImageFolderDataset:
    """The pictures that the settings name."""
    return ImageFolderDataset(Path(data.path), use_labels=data.cond, max_size=data.subset, xflip=data.xflip, yflip=data.yflip, seed=seed)


def nest(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Put options in their places among nested settings."""
    for name, value in given.items():
        *path, field = FIELDS[name].split('.')
        place = settings
        for part in path:
            place = place.setdefault(part, {})
        place[field] = value
    return settings
