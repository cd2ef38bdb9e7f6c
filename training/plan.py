"""From the command line of train.py to what is to be run: settings, data, run folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnnlib import UserError

from . import cost, health
from .config import DataConfig, TrainingConfig, build_config, check, merge
from .dataset import ImageFolderDataset
from .resume import load_source, new_source
from .run_dir import INDEX, SNAPSHOT_NAME, STATE_NAME, load_options, own_files, refuse_links
from .snapshots import Networks, is_elsewhere, load_networks, nvidia_runs
from .state import config_of, load_state, stored_settings
from .train_options import FIELDS

# Of a run that is continued. The device is no setting of the run.
CHANGEABLE = ('kimg', 'snap', 'img_snap', 'keep', 'metrics', 'metrics_kimg', 'cache', 'data')
# such runs come from other machines
CHANGEABLE_IN_NVIDIA_RUNS = (*CHANGEABLE, 'workers', 'gpus', 'batch_gpu', 'trust_pickle')

SMALL_SET = 2048  # pictures, below which FID is biased

ARCHITECTURE = ('cbase', 'cmax', 'map_depth', 'mbstd_group')  # options about new networks

# options that would be ignored
IDLE = {
    'noaug': ('target', 'augpipe', 'ada_kimg', 'ada_max'),
    'fixed': ('target', 'ada_kimg', 'ada_max'),
}


@dataclass
class Plan:
    """What is to be run: settings, data, and where to begin.

    Attributes:
        state: of `load_state`; None begins at the beginning.
        run_dir: the existing folder to go on in; None makes a new one.
        outdir: where to make it.
        notes: lines for the log.
        trust_pickle: execute what the snapshot of `config.resume` asks for. Never stored with a
            run.
    """

    config: TrainingConfig
    dataset: ImageFolderDataset
    state: dict[str, Any] | None = None
    run_dir: Path | None = None
    outdir: Path | None = None
    notes: list[str] = field(default_factory=list)
    trust_pickle: bool = False


@dataclass(frozen=True)
class Continuation:
    """A run to go on with. `plan_continuation` reads it, when its folder is claimed.

    Attributes:
        run_dir: the run's folder.
        given: what the user gave, by option.
    """

    run_dir: Path
    given: dict[str, Any]

    @property
    def gpus(self) -> int:
        """How many processes it needs.

        Raises:
            UserError: it is no run folder.
        """
        options = _options_of(self.run_dir)
        default = options.get('gpus', 1)
        if nvidia_runs.is_nvidia_run(options):
            default = int(os.environ.get('WORLD_SIZE', '1'))
        gpus = self.given.get('gpus', default)
        return gpus if type(gpus) is int and gpus > 0 else 1


def _options_of(run_dir: Path) -> dict[str, Any]:
    """Read the options of a run folder that may come from a stranger."""
    if not run_dir.is_dir():
        what = 'a file, not a run folder' if run_dir.exists() else 'no such run folder'
        raise UserError(f'--continue={run_dir}: {what}')
    refuse_links(run_dir)
    return load_options(run_dir)


def plan_new_run(preset: str, given: dict[str, Any], outdir: Path | None, on_cpu: bool) -> Plan:
    """Plan a new run.

    Args:
        preset: of `configs/`.
        given: what the user gave, by option.
        on_cpu: pictures are read in the main process unless `workers` says otherwise.

    Raises:
        UserError: options that contradict each other, the preset, or the data.
    """
    if (given.get('aug') == 'fixed') != ('p' in given):
        raise UserError(
            '--aug=fixed needs --p, and --p needs --aug=fixed (--aug-strength is where ada starts)'
        )
    if 'aug_strength' in given and given.get('aug', 'ada') != 'ada':
        raise UserError(
            f'--aug-strength={given["aug_strength"]} is where ada starts; it does '
            f'nothing with --aug={given["aug"]}'
        )
    given = {'gpus': int(os.environ.get('WORLD_SIZE', '1')), **given}  # torchrun's number
    if given['gpus'] < 1:
        raise UserError(f'--gpus={given["gpus"]}: at least 1')
    for mode, idle in IDLE.items():
        for name in idle:
            if given.get('aug') == mode and name in given:
                raise UserError(
                    f'--{name.replace("_", "-")}={given[name]} does nothing with --aug={mode}'
                )
    trust_pickle = given.pop('trust_pickle', False)
    if trust_pickle and 'resume' not in given:
        raise UserError('--trust-pickle is about the snapshot of --resume; there is none')
    for name in ARCHITECTURE:
        if name in given and 'resume' in given:
            flag = name.replace('_', '-')
            raise UserError(
                f'--{flag}={given[name]} is for new networks; the snapshot of --resume brings its '
                'architecture: leave it out'
            )
    settings: dict[str, Any] = {'data': {'workers': 0}} if on_cpu else {}
    if 'resume' in given:
        # the networks are past their beginnings
        settings.update({'augment': {'kimg': 100.0}, 'ema': {'rampup': None}})
    settings = nest(given, settings)
    dataset = open_dataset(
        merge(DataConfig(), settings['data'], 'the command line'), given.get('seed', 0)
    )
    # so that it can be continued from any folder
    settings['data']['path'] = str(Path(settings['data']['path']).absolute())
    settings.setdefault('metrics', () if on_cpu else default_metrics(dataset.stored_shape[0]))
    config = build_config(preset, dataset.resolution, given['gpus'], settings)
    return Plan(config, dataset, outdir=outdir, trust_pickle=trust_pickle)


def default_metrics(num_pictures: int) -> tuple[str, ...]:
    """Return what snapshots are judged by unless the user says otherwise.

    FID is biased below 2,048 pictures, where KID isn't; 5,000 fakes then take a tenth of the time.
    """
    return ('kid5k_full', 'fid5k_full') if num_pictures < SMALL_SET else ('fid50k_full',)


def try_plan(plan: Plan, device: str) -> list[str]:
    """Check for `--dry-run` what only the start of a run would find out.

    Args:
        device: `cuda`, `cpu` or `mps`.

    Returns:
        Lines about the snapshot of `--resume`, which is loaded if it need not be downloaded, the
        cost, and warnings.

    Raises:
        UserError: the snapshot can't be read, or doesn't fit the data.
    """
    config, lines = plan.config, []
    if config.resume is not None and plan.state is None and not is_elsewhere(config.resume):
        source = load_source(config, plan.dataset, trust_pickle=plan.trust_pickle)
        lines += source.notes
    else:
        source = new_source(config, plan.dataset)
        if config.resume is not None and plan.state is None:
            lines.append(
                f'--resume={config.resume}: not downloaded by a dry run; what follows is '
                f"for the preset's architecture"
            )
    price = cost.estimate(source.config, source.G, source.D, device)
    lines += cost.describe(price, source.config, device)
    return lines + health.advice_at_start(
        source.config, plan.dataset.stored_shape[0], price, device
    )


def plan_continuation(continuation: Continuation) -> Plan:
    """Plan the rest of a run.

    Ours goes on from its state, or from the beginning if it was stopped before there was one;
    NVIDIA's from its last snapshot, in a new folder beside it.

    Raises:
        UserError: an option that can't be changed now, no run, or the data are gone or have
            changed.
    """
    run_dir, given = continuation.run_dir, continuation.given
    options = _options_of(run_dir)
    if nvidia_runs.is_nvidia_run(options):
        return _plan_after_nvidia(run_dir, options, given)
    if options and not (
        own_files(run_dir, STATE_NAME)
        or own_files(run_dir, SNAPSHOT_NAME)
        or (run_dir / INDEX).exists()
    ):
        return _plan_from_the_beginning(run_dir, options, given)
    state = load_state(run_dir)
    config = config_of(state)
    given = dict(given)
    if 'data' in given:
        given['data'] = str(Path(given['data']).absolute())
    config = check(merge(config, _nest_changes(given, CHANGEABLE), 'the command line'))
    if 'kimg' in given and config.total_kimg * 1000 < state['counters']['cur_nimg']:
        raise UserError(
            f'--kimg={config.total_kimg:g}: the run is at '
            f'{state["counters"]["cur_nimg"] / 1000:g} already'
        )
    return Plan(config, open_dataset(config.data, config.seed), state, run_dir)


def _plan_from_the_beginning(run_dir: Path, options: dict[str, Any], given: dict[str, Any]) -> Plan:
    """Plan a run that was stopped before its first state was saved."""
    trust_pickle = given.get('trust_pickle', False)
    given = {name: value for name, value in given.items() if name != 'trust_pickle'}
    config = merge(TrainingConfig(), stored_settings(options), f'{run_dir}/training_options.json')
    # a file in a folder must not choose what is downloaded and read
    if config.resume is not None and 'resume' not in given:
        raise UserError(
            f'--continue={run_dir}: stopped before its first state was saved, so it '
            f'begins again; '
            f'name its snapshot, --resume={config.resume}'
        )
    if config.resume is None and trust_pickle:
        raise UserError('--trust-pickle is about the snapshot of --resume; this run has none')
    if config.resume is None and 'resume' in given:
        raise UserError(
            f'--resume={given["resume"]}: this run began without a snapshot; start a new run'
        )
    config = check(
        merge(config, _nest_changes(given, (*CHANGEABLE, 'resume')), 'the command line'),
        networks_known=config.resume is None,
    )
    return Plan(
        config, open_dataset(config.data, config.seed), None, run_dir, trust_pickle=trust_pickle
    )


def _plan_after_nvidia(run_dir: Path, options: dict[str, Any], given: dict[str, Any]) -> Plan:
    settings, notes = nvidia_runs.settings_of(options)
    given = {'gpus': int(os.environ.get('WORLD_SIZE', '1')), **given}  # torchrun's number
    snapshot, kimg, networks = _last_whole_snapshot(
        run_dir, given.get('trust_pickle', False), notes
    )
    settings.update(resume=str(snapshot), start_kimg=kimg)
    if networks.augment_pipe is not None:
        settings['augment']['p'] = float(networks.augment_pipe.p)
    config = merge(TrainingConfig(preset='nvidia'), settings, f'{run_dir}/training_options.json')
    changes = _nest_changes(given, CHANGEABLE_IN_NVIDIA_RUNS)
    config = check(merge(config, changes, 'the command line'))
    config = merge(
        config, {'data': {'path': str(Path(config.data.path).absolute())}}, 'the command line'
    )
    notes = [
        f"Going on with a run of NVIDIA's from {snapshot.name}: weights, counter ({kimg:g} "
        f'kimg), p ({config.augment.p:.3f}) and '
        'settings are its own',
        f'Not restored: {"; ".join([nvidia_runs.LOST, *notes])}',
    ]
    return Plan(
        config,
        open_dataset(config.data, config.seed),
        outdir=run_dir.absolute().parent,
        notes=notes,
        trust_pickle=given.get('trust_pickle', False),
    )


def _last_whole_snapshot(
    run_dir: Path, trust_pickle: bool, notes: list[str]
) -> tuple[Path, float, Networks]:
    problem: UserError | None = None
    for path, kimg in nvidia_runs.snapshots(run_dir):
        try:
            return path, kimg, load_networks(path, trust_pickle=trust_pickle)
        except UserError as error:  # cut off when the run was killed
            problem = problem or error
            notes.append(f'{path.name} cannot be read and is skipped')
    assert problem is not None
    raise problem


def _nest_changes(given: dict[str, Any], changeable: tuple[str, ...]) -> dict[str, Any]:
    fixed = [name for name in given if name not in changeable]
    if fixed:
        options = ', '.join(f'--{name.replace("_", "-")}' for name in (*changeable, 'device'))
        raise UserError(
            f"--{fixed[0].replace('_', '-')} can't be changed when a run is continued; "
            f'{options} can'
        )
    return nest(given, {})


def open_dataset(data: DataConfig, seed: int) -> ImageFolderDataset:
    """Open the pictures that the settings name."""
    return ImageFolderDataset(
        Path(data.path),
        use_labels=data.cond,
        max_size=data.subset,
        xflip=data.xflip,
        yflip=data.yflip,
        seed=seed,
    )


def nest(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Put options in their places among nested settings."""
    for name, value in given.items():
        if name == 'trust_pickle':  # no setting of a run
            continue
        *path, field = FIELDS[name].split('.')
        place = settings
        for part in path:
            place = place.setdefault(part, {})
        place[field] = value
    return settings
