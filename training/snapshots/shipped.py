"""Networks that come with the project: `models/NAME.safetensors` is called NAME in every script."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / 'models'


def shipped_networks() -> dict[str, Path]:
    """Return their files by name."""
    return {path.stem: path for path in sorted(FOLDER.glob('*.safetensors'))}


def how_to_restore(path: Path) -> str:
    """Return advice on a damaged file, or an empty text if the file isn't one of these."""
    if path.parent != FOLDER:
        return ''
    return f'; it comes with the project: git checkout -- models/{path.name} restores it'
