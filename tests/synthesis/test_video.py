"""Video files: they open, and hold the frames, the size and the speed that were asked for."""

import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import read_video
from PIL import Image

from dnnlib import UserError
from synthesis.video import VideoWriter, check_video


def frames_of(width: int, height: int, count: int) -> list[np.ndarray]:
    """Flat colours, the third and fourth the same."""
    colours = [[i * 25, 200 - i * 20, 90 + i] for i in (0, 1, 2, 2, *range(4, count))]
    return [np.full([height, width, 3], colour, np.uint8) for colour in colours]


@pytest.mark.parametrize('suffix', ['.mp4', '.gif', '.GIF'])
@pytest.mark.parametrize('size', [(64, 64), (33, 17), (1, 2)])
def test_frames_size_and_colours(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    want = frames_of(width, height, 7)
    path = tmp_path / 'new' / f'a{suffix}'
    with VideoWriter(path, size, fps=30) as video:
        for frame in want:
            video.add(frame)
    frames, seconds = read_video(path)
    odd = suffix == '.mp4'
    assert frames.shape == (7, height + height % 2 * odd, width + width % 2 * odd, 3)
    assert seconds == pytest.approx(7 / 30, abs=0.01)
    for frame, colour in zip(frames, want):
        assert np.abs(frame.astype(int) - colour[0, 0]).max() <= 3
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_frames_per_second(suffix: str, tmp_path: Path) -> None:
    for fps in (24000 / 1001, 50):
        with VideoWriter(tmp_path / f'a{suffix}', (8, 8), fps) as video:
            for frame in frames_of(8, 8, 9):
                video.add(frame)
        assert read_video(tmp_path / f'a{suffix}')[1] == pytest.approx(9 / fps, abs=0.011)


def test_h264_that_every_player_shows(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, [10, 64, 64, 3], dtype=np.uint8)
    sizes = []
    for quality in (10, 60, 100):
        with VideoWriter(tmp_path / 'a.mp4', (64, 64), 25, quality) as video:
            for frame in noise:
                video.add(frame)
        sizes.append((tmp_path / 'a.mp4').stat().st_size)
        meta = next(imageio_ffmpeg.read_frames(tmp_path / 'a.mp4'))
        assert (
            meta['codec'] == 'h264'
            and meta['pix_fmt'].startswith('yuv420p(tv, bt709')
            and meta['fps'] == 25
        )
    assert sizes[0] * 2 < sizes[1] and sizes[1] * 1.2 < sizes[2]


def test_gif_keeps_colours_and_plays_for_ever(tmp_path: Path) -> None:
    ramp = np.stack(
        np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(64)[None] * 4, 128), -1
    ).astype(np.uint8)
    with VideoWriter(tmp_path / 'a.gif', (64, 64), 10) as video:
        video.add(ramp)
        video.add(ramp[::-1, :, :1])  # grey
    frames, _ = read_video(tmp_path / 'a.gif')
    assert (
        np.abs(frames[0].astype(float) - ramp).mean() < 8
        and (frames[1] == frames[1][:, :, :1]).all()
    )
    with Image.open(tmp_path / 'a.gif') as image:
        assert image.info['loop'] == 0


@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_errors_leave_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f'a{suffix}'
    path.write_text('old')
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, (8, 8)) as video:
        video.add(np.zeros([8, 8, 3], np.uint8))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match='without frames'), VideoWriter(path, (8, 8)):
        pass
    for wrong in (
        np.zeros([8, 9, 3], np.uint8),
        np.zeros([8, 8, 3], np.float32),
        np.zeros([8, 8, 4], np.uint8),
    ):
        with pytest.raises(ValueError, match='a frame is'), VideoWriter(path, (8, 8)) as video:
            video.add(wrong)
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == 'win32', reason='limits the size of files as POSIX does')
@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_full_disk_is_reported(suffix: str, tmp_path: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.RandomState(0).randint(0, 256, [4, 128, 128, 3], dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(UserError, match=f'cannot write .*a{suffix}'),
            VideoWriter(tmp_path / f'a{suffix}', (128, 128)) as video,
        ):
            for frame in noise:
                video.add(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name,fps,quality,words',
    [
        ('a.avi', 30, 50, 'ends in .mp4 or .gif'),
        ('a', 30, 50, 'ends in'),
        ('a.mp4', 0, 50, '0 frames a second'),
        ('a.mp4', float('nan'), 50, 'nan frames'),
        ('a.gif', 60, 50, 'at most 50'),
        ('a.mp4', 30, 0, '1…100'),
        ('a.mp4', 30, 101, 'not 101'),
    ],
)
def test_impossible_videos_are_refused_before_drawing(
    name: str, fps: float, quality: int, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        check_video(tmp_path / name, fps, quality)
    assert '\n' not in str(caught.value) and not list(tmp_path.iterdir())


def test_without_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('IMAGEIO_FFMPEG_EXE', str(tmp_path / 'nowhere'))
    with (
        pytest.raises(UserError, match='cannot run .*nowhere'),
        VideoWriter(tmp_path / 'a.mp4', (8, 8)) as video,
    ):
        video.add(np.zeros([8, 8, 3], np.uint8))
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
    with pytest.raises(UserError, match='pip install imageio-ffmpeg'):
        check_video(tmp_path / 'a.mp4', 30)
    check_video(tmp_path / 'a.gif', 30)
    assert not list(tmp_path.iterdir())
