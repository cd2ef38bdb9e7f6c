"""Run folders of NVIDIA's `stylegan2-ada-pytorch` and `stylegan3 --cfg=stylegan2`: what a new run
needs in order to go on with one.

Such a folder has snapshots and settings, but no state: the moments of Adam, the averages of path
length and of D's signs, the random numbers and the order of the pictures are lost.
"""

import re
from pathlib import Path
from typing import Any

from dnnlib import UserError

from ..config import AUGPIPES

LOST = (
    "Adam's moments, the average path length, D's sign statistics, the random numbers and the "
    'order of the pictures'
)


def is_nvidia_run(options: dict[str, Any]) -> bool:
    """Return whether the content of a `training_options.json` is NVIDIA's."""
    return isinstance(options.get('training_set_kwargs'), dict) and isinstance(
        options.get('loss_kwargs'), dict
    )


def snapshots(run_dir: Path) -> list[tuple[Path, float]]:
    """Return the snapshots of a run folder and their kimg, by their names, the newest first.

    Raises:
        UserError: there is none.
    """
    found = {
        int(match[1]): path
        for path in run_dir.iterdir()
        if (match := re.fullmatch(r'network-snapshot-(\d+)\.pkl', path.name))
    }
    if not found:
        raise UserError(f'--continue={run_dir}: there is no network-snapshot-*.pkl in it')
    return [(found[number], float(number)) for number in sorted(found, reverse=True)]


# Long because it is a table: NVIDIA's names to ours.
def settings_of(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Translate a `training_options.json`.

    Returns:
        Settings, nested like `TrainingConfig`; and a line for each that can't be had.

    Raises:
        UserError: it names no data set.
    """
    notes: list[str] = []
    data, loss, loader = (
        _part(options, key) for key in ('training_set_kwargs', 'loss_kwargs', 'data_loader_kwargs')
    )
    optimizer, d_optimizer = _part(options, 'G_opt_kwargs'), _part(options, 'D_opt_kwargs')
    blocks = _part(_part(options, 'D_kwargs'), 'block_kwargs')
    if not isinstance(data.get('path'), str):
        raise UserError('training_options.json names no data set')
    settings: dict[str, Any] = {
        'data': _present(
            path=data['path'],
            cond=data.get('use_labels'),
            xflip=data.get('xflip'),
            yflip=data.get('yflip'),
            subset=data.get('max_size'),
            workers=loader.get('num_workers'),
        ),
        'loss': _present(
            **{
                key: loss.get(key)
                for key in (
                    'r1_gamma',
                    'pl_weight',
                    'pl_decay',
                    'pl_batch_shrink',
                    'style_mixing_prob',
                )
            },
            g_reg_interval=options.get('G_reg_interval'),
            d_reg_interval=options.get('D_reg_interval'),
        ),
        'optimizer': _present(lr=optimizer.get('lr'), eps=optimizer.get('eps')),
        'ema': {
            **_present(kimg=options.get('ema_kimg')),
            **({'rampup': options['ema_rampup']} if 'ema_rampup' in options else {}),
        },
        'augment': _augment(options, notes),
        'network': _present(freeze_layers=blocks.get('freeze_layers')),
        **_present(
            batch_size=options.get('batch_size'),
            batch_gpu=options.get('batch_gpu'),
            total_kimg=options.get('total_kimg'),
            tick_kimg=options.get('kimg_per_tick'),
            snapshot_ticks=options.get('network_snapshot_ticks'),
            seed=options.get('random_seed'),
        ),
    }
    betas = optimizer.get('betas')
    if isinstance(betas, list) and len(betas) == 2:
        settings['optimizer'].update(beta1=betas[0], beta2=betas[1])
    settings['optimizer'].update(_present(d_lr=d_optimizer.get('lr')))
    metrics = [name for name in options.get('metrics') or () if isinstance(name, str)]
    if metrics:
        notes.append(f'its metrics {" ".join(metrics)}: give --metrics')
    return settings, notes


def _augment(options: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    strengths = {
        key: value for key, value in _part(options, 'augment_kwargs').items() if key != 'class_name'
    }
    if not strengths:
        return {'mode': 'noaug'}
    pipe = next(
        (
            name
            for name, transforms in AUGPIPES.items()
            if strengths == dict.fromkeys(transforms, 1)
        ),
        None,
    )
    if pipe is None:
        notes.append(f'its augmentations {strengths}: bgc instead')
    target = options.get('ada_target')
    return {
        'mode': 'ada' if target is not None else 'fixed',
        'pipe': pipe or 'bgc',
        **_present(
            target=target, interval=options.get('ada_interval'), kimg=options.get('ada_kimg')
        ),
    }


def _part(options: dict[str, Any], key: str) -> dict[str, Any]:
    part = options.get(key) or {}
    if not isinstance(part, dict):
        raise UserError(
            f'training_options.json: {key} is {str(part)[:40]!r}, not a group of settings'
        )
    return part


def _present(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}
