"""Projection: a network's own pictures are found again, and the file that it leaves draws the
picture that it shows.
"""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, read_video
from PIL import Image

import generate
import project as script
from dataset_tools.faces.targets import find_targets, load_target
from dataset_tools.image.resize import resize
from dnnlib import UserError
from synthesis.noise import given_noise, stored_noise
from synthesis.projection import (
    Settings,
    State,
    _ramps,
    noise_autocorrelation,
    normalize,
    project,
    render_projection,
    w_statistics,
)
from synthesis.projection_losses import pyramid
from synthesis.sampling import latents_from_seeds, render
from torch_utils.image_io import save_picture
from torch_utils.lpips import squared_distance
from torch_utils.misc import named_tensors
from training.networks import Generator
from training.snapshots import Networks, load_networks, save_networks

SMALL, COND, TRAINED = (
    str(GOLDEN / name)
    for name in ('ada-uncond-32.pkl', 'ada-cond-32.pkl', 'trained-64.safetensors')
)


@pytest.fixture(scope='module')
def G() -> Generator:
    return load_networks(SMALL).G_ema


def own_pictures(G: Generator, count: int) -> torch.Tensor:
    return render(G, latents_from_seeds(range(count), G.z_dim), torch.zeros(count, 0))


def last(G: Generator, targets: torch.Tensor, **settings: Any) -> State:
    *_, state = project(G, targets, pyramid, Settings(**settings))
    return state


def embedded(images: torch.Tensor) -> torch.Tensor:
    return pyramid((images.float() - 127.5) / 127.5)


def test_own_pictures_of_a_trained_network_are_found() -> None:
    """The claim of the README, in fewer steps."""
    G = load_networks(TRAINED).G_ema
    images = own_pictures(G, 22)
    targets, others = images[:2], images[2:]
    state = last(G, targets, space='w+', num_steps=200, w_plus_weight=0.003)
    found = torch.stack(
        [render_projection(G, ws, noise) for ws, noise in zip(state.ws, state.noises)]
    )
    errors = ((found.float() - targets.float()) / 255).square().mean(dim=(1, 2, 3))
    assert (-10 * errors.log10()).min() > 25
    for target, distance in zip(targets, squared_distance(embedded(found), embedded(targets))):
        assert (
            distance * 5 < squared_distance(embedded(others), embedded(target.unsqueeze(0))).min()
        )


@pytest.mark.parametrize('noise', ['const', 'optimise'])
def test_several_at_a_time_are_as_each_alone(noise: str, G: Generator) -> None:
    targets = own_pictures(G, 3)
    for space in ('w', 'w+'):
        together = last(G, targets, space=space, noise=noise, num_steps=8, w_plus_weight=0.1)
        alone = last(G, targets[1:2], space=space, noise=noise, num_steps=8, w_plus_weight=0.1)
        torch.testing.assert_close(together.ws[1], alone.ws[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(together.distance[1], alone.distance[0], rtol=1e-3, atol=1e-4)
        for layer, values in alone.noises[0].items():
            torch.testing.assert_close(together.noises[1][layer], values, rtol=1e-2, atol=1e-3)
        assert not torch.allclose(together.ws[0], together.ws[1], atol=1e-2)


def test_projection_does_not_change_the_network(G: Generator) -> None:
    before = {name: tensor.clone() for name, tensor in named_tensors(G)}
    list(project(G, own_pictures(G, 1), pyramid, Settings(noise='optimise', num_steps=3)))
    assert all(
        torch.equal(tensor, before[name]) and tensor.grad is None
        for name, tensor in named_tensors(G)
    )


def test_states_come_every_few_steps_and_are_repeatable(G: Generator) -> None:
    states = list(project(G, own_pictures(G, 2), pyramid, Settings(num_steps=5), every=2))
    assert [state.step for state in states] == [2, 4, 5]
    assert states[0].ws.shape == (2, G.num_ws, G.w_dim) and not torch.equal(
        states[0].ws, states[1].ws
    )
    assert (states[0].ws == states[0].ws[:, :1]).all() and states[0].distance.shape == (2,)
    plus = last(G, own_pictures(G, 1), space='w+', num_steps=5)
    assert not (plus.ws == plus.ws[:, :1]).all()
    again = last(G, own_pictures(G, 1), space='w+', num_steps=5)
    assert torch.equal(plus.ws, again.ws)
    assert not torch.equal(plus.ws, last(G, own_pictures(G, 1), space='w+', num_steps=5, seed=1).ws)


def test_optimised_noise_is_white_and_lowers_the_error(G: Generator) -> None:
    torch.manual_seed(0)
    with given_noise(
        G, {layer: torch.randn_like(noise)[None, None] for layer, noise in stored_noise(G).items()}
    ):
        target = own_pictures(G, 1)
    optimised, const, none = (
        last(G, target, noise=noise, num_steps=steps)
        for noise, steps in [('optimise', 100), ('const', 1), ('none', 1)]
    )
    assert (
        const.noises == [{}]
        and optimised.noises[0].keys() == none.noises[0].keys() == stored_noise(G).keys()
    )
    for noise in optimised.noises[0].values():
        assert abs(noise.mean()) < 1e-4 and abs(noise.square().mean() - 1) < 1e-3
    assert all(noise.count_nonzero() == 0 for noise in none.noises[0].values())
    maps = [noise.reshape(1, 1, *noise.shape) for noise in optimised.noises[0].values()]
    assert noise_autocorrelation(maps) < 1e-3

    def error(noise: dict[str, torch.Tensor]) -> float:
        return float(
            squared_distance(
                embedded(render_projection(G, optimised.ws[0], noise).unsqueeze(0)),
                embedded(target),
            )
        )

    assert error(optimised.noises[0]) < 0.92 * error({})


def test_without_its_weight_noise_takes_structure(G: Generator) -> None:
    target = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    target[:, :, :, ::4] = 255
    found = [
        last(G, target, noise='optimise', num_steps=30, noise_weight=weight).noises[0]
        for weight in (0.0, 1e5)
    ]
    free, held = (
        noise_autocorrelation([noise.reshape(1, 1, *noise.shape) for noise in noises.values()])
        for noises in found
    )
    assert free > 20 * held


def test_autocorrelation_by_hand() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 8, 8)
    # −1 across, 1 along, squared
    assert noise_autocorrelation([stripes]).item() == pytest.approx(2)
    # 16 px: 0 across, 1 along; 8 px: twice −1 and 1, squared: 16 each
    pairs = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4).expand(2, 1, 16, 16)
    assert noise_autocorrelation([pairs, stripes.expand(2, -1, -1, -1)]).tolist() == pytest.approx(
        [1 + 32 + 2] * 2
    )
    torch.manual_seed(0)
    white = torch.randn(4, 1, 256, 256)
    assert noise_autocorrelation([white]).max() < 0.1
    scaled = normalize(white * 3 + 1)
    torch.testing.assert_close(scaled, normalize(white))
    assert (
        scaled.mean(dim=(2, 3)).abs().max() < 1e-5
        and (scaled.square().mean(dim=(2, 3)) - 1).abs().max() < 1e-5
    )


def test_learning_rate_ramps() -> None:
    settings = Settings()
    values = [_ramps(time, settings) for time in (0, 0.025, 0.05, 0.75, 0.875, 1)]
    assert values == pytest.approx([0, 0.5, 1, 1, 0.5, 0])
    assert _ramps(0.75 + 0.25 / 3, settings) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)


def test_statistics_of_w(G: Generator) -> None:
    w_avg, scale = w_statistics(G, None, 500, seed=5)
    z = torch.from_numpy(np.random.RandomState(5).randn(500, G.z_dim)).float()
    ws = G.mapping(z, None)[:, 0]
    torch.testing.assert_close(w_avg, ws.mean(dim=0))
    torch.testing.assert_close(scale, ((ws - ws.mean(dim=0)) ** 2).sum(dim=1).mean().sqrt())
    classes = load_networks(COND).G_ema
    assert not torch.allclose(
        *(w_statistics(classes, torch.eye(3)[[i]], 100, seed=0)[0] for i in (0, 1)), atol=1e-2
    )


def test_the_regulariser_of_w_plus_holds_latents_back(G: Generator) -> None:
    target = torch.from_numpy(
        np.random.RandomState(0).randint(0, 256, [1, 3, 32, 32], dtype=np.uint8)
    )
    w_avg, scale = w_statistics(G, None, 1000, seed=0)
    far, near, nearer = (
        (last(G, target, space='w+', num_steps=40, w_plus_weight=weight).ws - w_avg).norm() / scale
        for weight in (0, 0.1, 10)
    )
    assert near < 0.95 * far and nearer < 0.5 * far
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(UserError, match='--w-plus-reg'):
            Settings(w_plus_weight=weight)


def run(outdir: Path, *options: str) -> int:
    return script.main(['--outdir', str(outdir), '--device=cpu', '--loss=pyramid', *options])


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures that are not square, one of them in a folder below."""
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'more').mkdir()
    rng = np.random.RandomState(0)
    for name, size in [('a.png', [40, 60, 3]), ('b.jpg', [70, 50, 3]), ('more/c.png', [32, 32, 1])]:
        save_picture(folder / name, rng.randint(0, 256, size, dtype=np.uint8))
    return folder


@pytest.mark.parametrize('noise', ['const', 'optimise', 'none'])
def test_the_file_alone_draws_the_picture(
    noise: str, G: Generator, pictures: Path, tmp_path: Path
) -> None:
    assert (
        run(
            tmp_path,
            '--target',
            str(pictures / 'a.png'),
            '--network',
            SMALL,
            '--num-steps=6',
            '--noise',
            noise,
            '--space=w+',
        )
        == 0
    )
    shown = np.asarray(Image.open(tmp_path / 'proj.png'))
    with np.load(tmp_path / 'projected_w.npz') as file:
        w = torch.from_numpy(file['w'])
        assert w.dtype == torch.float32 and w.shape == (1, G.num_ws, G.w_dim)
        assert (file.files == ['w']) == (noise == 'const')
    plain = to_pixels(G.synthesis(w, noise_mode='none' if noise == 'none' else 'const'))
    assert np.array_equal(plain, shown) == (noise != 'optimise')
    assert (
        generate.main(
            [
                '--network',
                SMALL,
                '--projected-w',
                str(tmp_path / 'projected_w.npz'),
                '--outdir',
                str(tmp_path / 'again'),
                '--device=cpu',
            ]
        )
        == 0
    )
    (again,) = (tmp_path / 'again').glob('*.png')
    assert np.array_equal(np.asarray(Image.open(again)), shown)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'target.png')), load_target(pictures / 'a.png', 32)
    )
    expected = resize(
        Image.open(pictures / 'a.png').crop((10, 0, 50, 40)), (32, 32), 'lanczos', (0, 0, 40, 40)
    )
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'target.png')), np.asarray(expected)
    )


def to_pixels(image: torch.Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()


def test_each_target_has_a_folder_and_batches_agree(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ['--target', str(pictures), '--network', SMALL, '--num-steps=5', '--save-video=0']
    assert run(tmp_path / 'batch', *options, '--batch=2') == 0
    assert '3 pictures projected to w by pyramid' in capsys.readouterr().out
    files = {
        path.relative_to(tmp_path / 'batch').as_posix()
        for path in (tmp_path / 'batch').rglob('*.*')
    }
    assert files == {
        f'{name}/{file}'
        for name in ('a', 'b', 'more-c')
        for file in ('target.png', 'proj.png', 'projected_w.npz')
    }
    assert run(tmp_path / 'one', *options, '--batch=1') == 0
    assert run(tmp_path / 'again', *options, '--batch=2') == 0
    for name in files:
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'batch' / name).read_bytes()
        if name.endswith('.png'):
            one, batch = (
                np.asarray(Image.open(tmp_path / folder / name)).astype(int)
                for folder in ('one', 'batch')
            )
            assert np.abs(one - batch).max() <= 1


def test_video_shows_target_and_projection(pictures: Path, tmp_path: Path) -> None:
    assert (
        run(tmp_path, '--target', str(pictures / 'b.jpg'), '--network', SMALL, '--num-steps=9') == 0
    )
    frames, seconds = read_video(tmp_path / 'proj.mp4')
    assert frames.shape == (9, 32, 64, 3) and seconds == pytest.approx(9 / 25, abs=0.03)
    for half, name in [(frames[-1][:, :32], 'target.png'), (frames[-1][:, 32:], 'proj.png')]:
        # it is noise, in half the colours
        assert np.abs(half.astype(int) - np.asarray(Image.open(tmp_path / name))).mean() < 30
    assert not np.array_equal(frames[1], frames[-1])


def test_long_videos_show_every_few_steps(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('synthesis.projection.VIDEO_FRAMES', 3)
    assert (
        run(tmp_path, '--target', str(pictures / 'b.jpg'), '--network', SMALL, '--num-steps=7') == 0
    )
    assert len(read_video(tmp_path / 'proj.mp4')[0]) == 3  # after 3, 6 and 7 steps


def test_grey_and_conditional_networks(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    grey = Generator(
        8,
        0,
        8,
        16,
        1,
        mapping_kwargs=dict(num_layers=1),
        channel_base=64,
        channel_max=8,
        use_noise=False,
    ).eval()
    save_networks(tmp_path / 'grey.pkl', Networks(None, None, grey))
    target = ['--target', str(pictures / 'a.png'), '--num-steps=3']
    assert (
        run(tmp_path / 'grey', *target, '--network', str(tmp_path / 'grey.pkl'), '--noise=optimise')
        == 0
    )
    assert (
        Image.open(tmp_path / 'grey' / 'target.png').mode
        == Image.open(tmp_path / 'grey' / 'proj.png').mode
        == 'L'
    )
    assert (
        run(tmp_path / 'x', *target, '--network', COND) == 2
        and '--class=0' in capsys.readouterr().err
    )
    drawn = []
    for number in ('0', '1'):
        assert run(tmp_path / number, *target, '--network', COND, '--class', number) == 0
        drawn.append((tmp_path / number / 'proj.png').read_bytes())
    assert drawn[0] != drawn[1]


def test_names_of_targets(tmp_path: Path) -> None:
    for name in ('a.png', 'A.jpg', 'b.png', 'sub/a.png', 'sub/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_targets([tmp_path, tmp_path / 'b.png', tmp_path / 'a.png'])
    assert sorted(found) == ['A.jpg', 'a.png', 'a.png-2', 'b.png', 'b.png-2', 'sub-a', 'sub-c']
    assert found['sub-a'] == tmp_path / 'sub/a.png' and list(
        find_targets([tmp_path / 'a.png'])
    ) == ['a']


@pytest.mark.parametrize(
    'change,words',
    [
        ({'--target': 'none.jpg'}, 'none.jpg: no such'),
        ({'--target': 'text.jpg'}, 'text.jpg: not a picture'),
        ({'--target': 'empty'}, 'no pictures in it'),
        ({'--network': 'none.pkl'}, 'none.pkl: no such'),
        ({'--num-steps': '0'}, '--num-steps'),
        ({'--w-plus-reg': '-1', '--space': 'w+'}, '--w-plus-reg=-1'),
        ({'--w-plus-reg': '0.1'}, 'no effect on --space=w'),
        ({'--w-plus-reg': 'nan'}, '--w-plus-reg'),
        ({'--space': 'z'}, '--space'),
        ({'--class': '0'}, 'no classes'),
        ({'--lpips-weights': 'x.pth'}, 'leave one of the two out'),
        ({'--batch': '0'}, '--batch'),
        ({'--seed': '-1'}, '--seed'),
        ({'--loss': 'l1'}, '--loss'),
        ({'--target': ''}, 'empty'),
        ({'--outdir': 'text.jpg'}, '--outdir=text.jpg: cannot be written: text.jpg is a file'),
    ],
)
def test_options_that_cannot_work_are_one_line(
    change: dict,
    words: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.jpg').write_text('hello')
    (tmp_path / 'empty').mkdir()
    options = {
        '--target': str(pictures / 'a.png'),
        '--network': SMALL,
        '--outdir': 'out',
        '--loss': 'pyramid',
        '--num-steps': '2',
        **change,
    }
    assert script.main([word for pair in options.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['empty', 'text.jpg']


def test_ctrl_c_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(GOLDEN.parent.parent / 'project.py'),
        '--target',
        str(pictures / 'a.png'),
        '--network',
        SMALL,
        '--outdir',
        str(tmp_path / 'out'),
        '--num-steps=100000',
        '--loss=pyramid',
        '--device=cpu',
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob('out/.proj.*.mp4')) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and 'interrupted' in error and 'Traceback' not in error
    assert not list((tmp_path / 'out').iterdir())
