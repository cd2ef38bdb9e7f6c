"""A training run: the networks and everything else that a step changes, and how it is set up."""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dnnlib import UserError
from torch_utils import persistence
from torch_utils.distributed import ALONE, Ranks
from torch_utils.misc import named_tensors, set_float32_precision
from torch_utils.training_stats import StatsCollector

from .ada import AdaController
from .augment import AugmentPipe
from .config import AUGPIPES, AugmentConfig, TrainingConfig
from .dataset import ImageFolderDataset, batches
from .dataset_cache import choose_cache
from .freezing import freeze, layers_from
from .networks import Discriminator, Generator
from .phase_graphs import PhaseGraphs, make_graphs
from .phases import Losses, Phase, build_phases
from .resume import load_source, new_source, without_fp16

CLASSES: dict[str, type[torch.nn.Module]] = {
    'G': Generator,
    'D': Discriminator,
    'G_ema': Generator,
    'augment_pipe': AugmentPipe,
}


@dataclass
class Run:
    """The state of a run: everything that a step changes."""

    config: TrainingConfig
    dataset: ImageFolderDataset
    device: torch.device
    G: Generator
    D: Discriminator
    G_ema: Generator
    augment_pipe: AugmentPipe | None
    ada: AdaController | None
    losses: Losses
    phases: list[Phase]
    stats: StatsCollector
    data: Iterator[tuple[torch.Tensor, torch.Tensor]]
    meta: dict[str, Any]  # what snapshots say under `toonify`: preset and parents
    cur_nimg: int  # pictures seen
    start_nimg: int  # where the counter started
    step: int = 0
    tick: int = -1  # the last one reported; tick 0 precedes the first step
    tick_nimg: int = 0  # where it was reported
    elapsed: float = 0.0  # seconds up to the last tick, those before a continuation included
    clock: float = field(default_factory=time.time)  # when that was, or when this process began
    ranks: Ranks = ALONE
    graphs: PhaseGraphs | None = None  # run the phases; None runs them eagerly
    cache: str = 'none'  # where the decoded pictures are: gpu, ram, none
    saved_nimg: int = -1  # the counter of the last state saved
    saved_at: float = field(default_factory=time.time)  # when that was, or when this process began
    notes: Sequence[str] = ()  # about where it comes from, for the log

    @property
    def p(self) -> float:
        """The augmentation probability. Reading it waits for the device."""
        return float(self.augment_pipe.p) if self.augment_pipe is not None else 0.0

    @property
    def end_nimg(self) -> int:
        """The counter at which the run ends."""
        return round(self.config.total_kimg * 1000)

    @property
    def tick_is_due(self) -> bool:
        """Whether the counter has reached the next tick.

        That depends on where the run started and on nothing else.
        """
        next_tick = self.start_nimg + round((self.tick + 1) * self.config.tick_kimg * 1000)
        return self.cur_nimg >= min(next_tick, self.end_nimg)

    @property
    def snapshot_is_due(self) -> bool:
        """Whether the tick that has just ended is one with a snapshot."""
        at_tick = self.tick > 0 and self.tick_nimg == self.cur_nimg
        return at_tick and (
            self.cur_nimg >= self.end_nimg or self.tick % self.config.snapshot_ticks == 0
        )

    def state_dict(self) -> dict[str, Any]:
        """Collect everything that the next step depends on.

        All processes must call it; the first one gets the result, the others nothing.
        """
        on_gpu = self.device.type == 'cuda'
        rng = self.ranks.gather(torch.get_rng_state())
        cuda_rng = self.ranks.gather(torch.cuda.get_rng_state(self.device)) if on_gpu else None
        # what the processes have gathered since they last told one another
        owned = self.ranks.gather(
            {
                'stats': self.stats.state(),
                'ada_signs': self.ada.signs.cpu() if self.ada is not None else None,
            }
        )
        if not self.ranks.is_main:
            return {}
        modules = {name: getattr(self, name) for name in CLASSES}
        return {
            'data': self.dataset.fingerprint,
            'config': json.dumps(self.config.to_dict()),
            'meta': json.dumps(self.meta),
            'networks': {
                name: _pack(module) for name, module in modules.items() if module is not None
            },
            'optimizers': {
                phase.name: phase.optimizer.state_dict()
                for phase in self.phases
                if phase.name in ('Gmain', 'Dmain')
            },
            'counters': dict(
                cur_nimg=self.cur_nimg,
                step=self.step,
                tick=self.tick,
                start_nimg=self.start_nimg,
                tick_nimg=self.tick_nimg,
            ),
            'pl_mean': self.losses.pl_mean.cpu(),
            'owned': owned,
            'rng': rng,
            'cuda_rng': cuda_rng,
            'elapsed': self.elapsed + time.time() - self.clock,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a freshly set up run, whose networks are those of the state, where it was saved.

        Raises:
            UserError: the data have changed since.
        """
        if state['data'] != self.dataset.fingerprint:
            raise UserError(
                f'{self.config.data.path} has changed since the run was stopped: other '
                f'names, numbers, shapes or labels'
            )
        rank = self.ranks.rank
        own = state['owned'][rank]
        for phase in self.phases:
            if phase.name in state['optimizers']:
                phase.optimizer.load_state_dict(state['optimizers'][phase.name])
        for name, value in state['counters'].items():
            setattr(self, name, value)
        self.meta = json.loads(state['meta'])
        self.losses.pl_mean.copy_(state['pl_mean'])
        if self.ada is not None:
            self.ada.signs.copy_(own['ada_signs'])
        self.stats.load_state(own['stats'], self.device)
        self.elapsed = state['elapsed']
        self.saved_nimg = self.cur_nimg
        torch.set_rng_state(state['rng'][rank])  # last: the above may draw numbers
        if self.device.type == 'cuda' and state['cuda_rng'] is not None:
            torch.cuda.set_rng_state(state['cuda_rng'][rank], self.device)


def _pack(module: torch.nn.Module) -> dict[str, Any]:
    return {
        'kwargs': json.dumps(persistence.constructor_kwargs(module)),
        'tensors': {name: tensor.detach().cpu() for name, tensor in named_tensors(module)},
    }


def _unpack(state: dict[str, Any], name: str) -> Any:
    """Build a network of a state, on the CPU; None if the state doesn't have it."""
    packed = state['networks'].get(name)
    if packed is None:
        return None
    kwargs = json.loads(packed['kwargs'])
    return persistence.build(CLASSES[name], kwargs, packed['tensors'], name)


def draw_latents(run: Run, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw latents and the labels of random pictures of the data set.

    Returns:
        z, float32 `[count, z_dim]`, and c, float32 `[count, c_dim]`, on the run's device.
    """
    z = torch.randn([count, run.G.z_dim], device=run.device)
    labels = run.dataset.random_labels(count)
    if run.device.type == 'cuda' and labels.numel() > 0:
        labels = labels.pin_memory()  # or their copy may wait for what the GPU has yet to do
    return z, labels.to(run.device, non_blocking=True)


# ----------------------------------------------------------------------------
# Setting up


@dataclass
class _Beginning:
    """Networks that a run begins with, on the CPU, and what is known about them."""

    config: TrainingConfig  # with the architecture that the networks have
    G: Generator
    D: Discriminator
    G_ema: Generator
    meta: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


# Long because it names everything that a run is made of.
def setup(
    config: TrainingConfig,
    dataset: ImageFolderDataset,
    device: torch.device,
    state: dict[str, Any] | None = None,
    ranks: Ranks = ALONE,
    trust_pickle: bool = False,
) -> Run:
    """Build or load the networks, and everything that a step needs.

    Args:
        device: of this process.
        state: of `load_state`, to go on from; None starts a new run.
        ranks: this process among those of the run.
        trust_pickle: execute what the snapshot of `config.resume` asks for.

    Raises:
        UserError: the snapshot to resume from or the augmentations don't fit the data.
    """
    torch.manual_seed(config.seed)
    # The augmentations' geometry, a product of matrices, needs its bits; the time goes into
    # convolutions.
    set_float32_precision(
        convolutions='tf32' if config.tf32 and not config.fp32 else 'ieee', matmul='ieee'
    )
    if state is None:
        begin = _begin_anew(config, dataset, trust_pickle)
    else:  # which brings meta
        begin = _Beginning(config, *(_unpack(state, name) for name in ('G', 'D', 'G_ema')))
    config = begin.config
    G, D = begin.G.train().to(device), begin.D.train().to(device)
    G_ema = begin.G_ema.eval().to(device)
    augment_pipe = _build_augmentations(config.augment, dataset.resolution, device)
    ada = None
    if augment_pipe is not None:
        if state is not None:
            augment_pipe.p.copy_(_unpack(state, 'augment_pipe').p)
        if config.augment.mode == 'ada':
            ada = AdaController(
                augment_pipe.p, config.augment.target, config.augment.kimg, config.augment.p_max
            )
    stats = StatsCollector()
    pl_mean = torch.zeros([], device=device)
    losses = Losses(G, D, augment_pipe, ada, config.loss, stats, pl_mean=pl_mean)
    cache = str(config.data.cache)
    if cache == 'auto':
        cache = choose_cache(int(np.prod(dataset.stored_shape)), device, ranks.count)
    data = batches(
        dataset,
        config.batch_size,
        seed=config.seed,
        workers=config.data.workers,
        device=device,
        start=state['counters']['step'] * config.batch_size if state is not None else 0,
        cache=cache,
        rank=ranks.rank,
        num_ranks=ranks.count,
    )
    if ranks.count > 1:  # every process draws its own latents, noise and augmentations
        torch.manual_seed((config.seed + 1) * 1_000_003 + ranks.rank)
    start_nimg = round(config.start_kimg * 1000)
    phases = build_phases(losses, config.optimizer)
    graphs = None
    if config.graphs:
        graphs = make_graphs(device, config.batch_gpu, ranks, [phase.name for phase in phases])
    run = Run(
        config,
        dataset,
        device,
        G,
        D,
        G_ema,
        augment_pipe,
        ada,
        losses,
        phases,
        stats,
        data,
        begin.meta,
        cur_nimg=start_nimg,
        start_nimg=start_nimg,
        tick_nimg=start_nimg,
        ranks=ranks,
        graphs=graphs,
        cache=cache,
        notes=begin.notes,
    )
    if state is not None:
        run.load_state_dict(state)
    return run


def _begin_anew(
    config: TrainingConfig, dataset: ImageFolderDataset, trust_pickle: bool
) -> _Beginning:
    """Make new networks or take those of `--resume`, with FreezeD and precision as asked for."""
    if config.resume:
        source = load_source(config, dataset, trust_pickle=trust_pickle)
    else:
        source = new_source(config, dataset)
    config, G, G_ema = source.config, source.G, source.G_ema
    network = config.network
    if network.freeze_resolution is not None:
        D = freeze(source.D, layers_from(source.D, network.freeze_resolution))
    else:
        D = freeze(source.D, network.freeze_layers)
    if config.fp32:
        G, D, G_ema = without_fp16(G), without_fp16(D), without_fp16(G_ema)
        config = dataclasses.replace(config, network=dataclasses.replace(network, num_fp16_res=0))
    meta = {'preset': config.preset, 'parents': source.parents}
    return _Beginning(config, G, D, G_ema, meta, source.notes)


def _build_augmentations(
    config: AugmentConfig, resolution: int, device: torch.device
) -> AugmentPipe | None:
    """Build the augmentation pipeline at the probability where a new run starts."""
    if config.mode == 'noaug':
        return None
    transforms = AUGPIPES[config.pipe]
    if 'imgfilter' in transforms and resolution < 32:
        raise UserError(
            f'--augpipe={config.pipe}: its filter is longer than pictures of {resolution} px; '
            'bgc does without'
        )
    strengths: dict[str, Any] = dict.fromkeys(transforms, 1)
    augment_pipe = AugmentPipe(**strengths).train().requires_grad_(False).to(device)
    augment_pipe.p.copy_(torch.as_tensor(config.p))
    return augment_pipe
