"""The other side of a comparison, in a separate process: a checkout with NVIDIA's module names, an
older one of this project, or this one with nothing but PyTorch's plain ops. Reads a job (JSON) from
the command line, prints milliseconds a piece of work (JSON) as its last line.

NVIDIA's checkouts have either `training/networks.py` with `StyleGAN2Loss(device, G_mapping,
G_synthesis, D, …)`, or `training/networks_stylegan2.py` with `StyleGAN2Loss(device, G, D, …)`; see
`time_checkout_step` for what is called.
"""

import contextlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

OURS = Path(__file__).resolve().parent.parent
PHASES = {'Gmain': 1, 'Greg': 4, 'Dmain': 1, 'Dreg': 16}  # name: every so many steps


def run_baseline(baseline: str, job: dict[str, Any]) -> dict[str, float]:
    """Milliseconds by name, measured in another process.

    Args:
        baseline: `eager` or the folder of a checkout.
        job: `work` (`step` or `generate`), `resolution`, `batch`, `device`, `repeats`, `threads`,
            `network` (constructor arguments `channel_base channel_max num_layers mbstd_group_size
            num_fp16_res conv_clamp`), `z_dim`, `w_dim`, `loss` (weights), and for a step `augment`
            (strengths) and `p`. See `job_of`.
    """
    words = [sys.executable, __file__, baseline, json.dumps(job)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f'{baseline} failed: {result.stderr.strip()[-2000:]}')
    return json.loads(result.stdout.strip().splitlines()[-1])


def median_ms(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median wall time of `work`, after two runs that don't count."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return float(np.median(times[2:]))


def use_plain_ops() -> None:
    """Take this project's own ways round PyTorch's plain ops out: what `eager` means."""
    from torch_utils.ops import affine_sample, bias_act, conv2d_gradfix, modulated_act, upfirdn2d
    from training import networks

    fast_bias_act, fast_upfirdn2d = bias_act.bias_act, upfirdn2d.upfirdn2d

    def plain_bias_act(*args: Any, **kwargs: Any) -> torch.Tensor:
        return fast_bias_act(*args, **{**kwargs, 'impl': 'ref'})

    def plain_upfirdn2d(*args: Any, **kwargs: Any) -> torch.Tensor:
        return fast_upfirdn2d(*args, **{**kwargs, 'impl': 'ref'})

    affine_sample.available = modulated_act.available = lambda *args: False
    bias_act.bias_act = plain_bias_act
    upfirdn2d.upfirdn2d = plain_upfirdn2d
    conv2d_gradfix.conv2d = torch.nn.functional.conv2d
    conv2d_gradfix.conv_transpose2d = torch.nn.functional.conv_transpose2d
    conv2d_gradfix.no_weight_gradients = lambda disable=True: contextlib.nullcontext()
    networks._memory_format = lambda *args: torch.contiguous_format


def build(job: dict[str, Any], device: torch.device) -> tuple[Any, Any, Any, str]:
    """G, D and the augmentations of the checkout that comes first on the path, and the name of its
    module of networks.
    """
    ada = importlib.util.find_spec('training.networks_stylegan2') is None
    networks = importlib.import_module(
        'training.networks' if ada else 'training.networks_stylegan2'
    )
    settings = dict(job['network'])
    mapping = {'num_layers': settings.pop('num_layers')}
    group = settings.pop('mbstd_group_size')
    common = dict(c_dim=0, img_resolution=job['resolution'], img_channels=3)
    G_settings = (
        dict(synthesis_kwargs=settings)
        if ada
        else dict(settings, fused_modconv_default='inference_only')
    )
    G = networks.Generator(
        z_dim=job['z_dim'], w_dim=job['w_dim'], mapping_kwargs=mapping, **common, **G_settings
    ).to(device)
    D = networks.Discriminator(
        **common, **settings, epilogue_kwargs={'mbstd_group_size': group}
    ).to(device)
    pipe = None
    if job.get('augment'):
        pipe = (
            importlib.import_module('training.augment')
            .AugmentPipe(**job['augment'])
            .to(device)
            .train()
            .requires_grad_(False)
        )
        pipe.p.copy_(torch.as_tensor(job['p']))
    return G, D, pipe, networks.__name__


def job_of(
    work: str,
    config: Any,
    resolution: int,
    batch: int,
    device: torch.device,
    repeats: int,
    **more: Any,
) -> dict[str, Any]:
    """The job that is this much of a run with this TrainingConfig."""
    network = {
        name: getattr(config.network, name)
        for name in (
            'channel_base',
            'channel_max',
            'mbstd_group_size',
            'num_fp16_res',
            'conv_clamp',
        )
    }
    loss = {
        name: getattr(config.loss, name) for name in ('r1_gamma', 'pl_weight', 'style_mixing_prob')
    }
    if device.type == 'cpu':
        network['num_fp16_res'] = 0  # float32 on both sides
    return dict(
        work=work,
        resolution=resolution,
        batch=batch,
        device=device.type,
        repeats=repeats,
        threads=torch.get_num_threads(),
        network=dict(network, num_layers=config.network.mapping_layers),
        z_dim=config.network.z_dim,
        w_dim=config.network.w_dim,
        loss=loss,
        **more,
    )


def time_checkout_step(job: dict[str, Any], device: torch.device) -> dict[str, float]:
    """The four phases, as a training loop with NVIDIA's loss class runs them."""
    G, D, pipe, name = build(job, device)
    loss_class = importlib.import_module('training.loss').StyleGAN2Loss
    regularisers = dict(augment_pipe=pipe, **job['loss'])
    ada = name == 'training.networks'
    loss = (
        loss_class(device, G.mapping, G.synthesis, D, **regularisers)
        if ada
        else loss_class(device, G, D, **regularisers)
    )
    optimisers = {
        network: torch.optim.Adam(network.parameters(), lr=0.002, betas=(0.0, 0.99), eps=1e-8)
        for network in (G, D)
    }
    batch = job['batch']
    real_img, labels = (
        torch.zeros([batch, 3, job['resolution'], job['resolution']], device=device),
        torch.zeros([batch, 0], device=device),
    )

    def run(phase: str, interval: int) -> None:
        network = G if phase[0] == 'G' else D
        optimisers[network].zero_grad(set_to_none=True)
        for one in (G, D):
            one.requires_grad_(one is network)
        ending = dict(sync=True, gain=interval) if ada else dict(gain=interval, cur_nimg=0)
        loss.accumulate_gradients(
            phase=phase,
            real_img=real_img,
            real_c=labels,
            gen_z=torch.randn([batch, job['z_dim']], device=device),
            gen_c=labels,
            **ending,
        )
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimisers[network].step()

    return {
        phase: median_ms(
            lambda phase=phase, interval=interval: run(phase, interval), job['repeats'], device
        )
        for phase, interval in PHASES.items()
        if phase != 'Greg' or job['loss']['pl_weight'] != 0
    }


def time_plain_step(job: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Time the four phases of this project's own loop, now or in an older checkout."""
    from torch_utils import training_stats
    from training.config import LossConfig, OptimizerConfig
    from training.phases import Batch, Losses, build_phases

    G, D, pipe, _ = build(job, device)
    config = LossConfig(**job['loss'])
    batch = job['batch']
    # older checkouts call it Collector
    stats = getattr(training_stats, 'StatsCollector', None) or training_stats.Collector
    pl_mean = torch.zeros([], device=device)
    losses = Losses(G.train(), D.train(), pipe, None, config, stats(), pl_mean)
    labels = torch.zeros([batch, 0], device=device)
    real_img = torch.zeros([batch, 3, job['resolution'], job['resolution']], device=device)
    inputs = Batch(real_img, labels, torch.randn([batch, job['z_dim']], device=device), labels)
    return {
        phase.name: median_ms(lambda phase=phase: phase.run(inputs, batch), job['repeats'], device)
        for phase in build_phases(losses, OptimizerConfig())
    }


def time_generator(job: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Pictures from random latents, nothing kept."""
    G = build(job, device)[0].eval().requires_grad_(False)
    z, labels = (
        torch.randn([job['batch'], job['z_dim']], device=device),
        torch.zeros([job['batch'], 0], device=device),
    )
    return {'generate': median_ms(lambda: G(z, labels, noise_mode='const'), job['repeats'], device)}


def main(baseline: str, job: dict[str, Any]) -> None:
    torch.set_num_threads(job['threads'])
    torch.manual_seed(0)
    device = torch.device(job['device'])
    checkout = OURS if baseline == 'eager' else Path(baseline).resolve()
    sys.path.insert(0, str(checkout))
    if baseline == 'eager':
        use_plain_ops()
    is_ours = 'class StyleGAN2Loss' not in (checkout / 'training' / 'loss.py').read_text()
    step = time_plain_step if is_ours else time_checkout_step
    times = step(job, device) if job['work'] == 'step' else time_generator(job, device)
    print(json.dumps(times))


if __name__ == '__main__':
    main(sys.argv[1], json.loads(sys.argv[2]))
