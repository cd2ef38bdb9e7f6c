"""Describe what snapshots hold, and what of one is in another."""

import torch

from dnnlib import printable
from torch_utils.misc import named_tensors

from ..augment import AugmentPipe
from ..networks import Discriminator, Generator
from .load_save import Networks, without_folders


def describe_networks(networks: Networks) -> dict[str, str]:
    """Describe everything that a snapshot holds, one line each, by name."""
    lines = {}
    for name in ('G_ema', 'G', 'D', 'augment_pipe'):
        module = getattr(networks, name)
        if isinstance(module, (Generator, Discriminator)):
            count = sum(tensor.numel() for _, tensor in named_tensors(module))
            lines[name] = (
                f'{module.img_resolution}×{module.img_resolution}, '
                f'{module.img_channels} channels, {module.c_dim} classes, '
                f'{count:,} numbers'
            )
        elif isinstance(module, AugmentPipe):
            lines[name] = f'p = {float(module.p):.3f}'
    plain = {
        key: value
        for key, value in networks.meta.items()
        if key not in ('path', 'sha256') and value
    }
    lines.update({key: printable(value, 160) for key, value in plain.items()})
    return lines


def compare_networks(before: Networks, after: Networks) -> dict[str, str]:
    """Say of everything in one snapshot whether another has it, down to single settings."""
    lines = {}
    for name in ('G_ema', 'G', 'D', 'augment_pipe'):
        ours, theirs = getattr(before, name), getattr(after, name)
        if ours is None and theirs is not None:
            lines[name] = 'added: this format insists on it'
        elif ours is not None and theirs is None:
            lines[name] = 'not carried: this format has no place for it'
        elif ours is not None:
            differences = _differences(ours, theirs)
            lines[name] = f'carried{", but: " + ", ".join(differences) if differences else ""}'
    for key, value in before.meta.items():
        if key not in ('path', 'sha256') and value:
            lines[key] = (
                'carried'
                if after.meta.get(key) == without_folders(value)
                else 'not carried: this format has no place for it'
            )
    return lines


def settings_of(module: torch.nn.Module) -> dict[tuple[str, str], int | float | str | None]:
    """Return the plain settings of all parts of a network, such as activations and gains.

    Keys are the dotted name of the part and the name of the setting.
    """
    return {
        (name, key): value
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, (int, float, str, type(None))) and not key.startswith('_')
    }


def _differences(ours: torch.nn.Module, theirs: torch.nn.Module) -> list[str]:
    """Name tensors that differ, and plain settings that do, those of one name together."""
    tensors = dict(named_tensors(theirs))
    found = [
        name
        for name, tensor in named_tensors(ours)
        if name not in tensors or not torch.equal(tensor, tensors[name])
    ]
    settings: dict[tuple[str, str, str], int] = {}
    others = settings_of(theirs)
    for (name, key), value in settings_of(ours).items():
        other = others.get((name, key))
        if value != other and key != 'num_fp16_res':
            row = (key, str(value), str(other))
            settings[row] = settings.get(row, 0) + 1
    return found + [
        f'{key} {value} → {other}' + (f' in {count} layers' if count > 1 else '')
        for (key, value, other), count in settings.items()
    ]
