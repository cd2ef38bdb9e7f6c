"""The house's rules that a machine can check: who imports whom, thin scripts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW = {
    'dnnlib': set(),
    'torch_utils': {'dnnlib'},
    'dataset_tools': {'dnnlib'},
    'metrics': {'dnnlib', 'torch_utils'},
    'training': {'dnnlib', 'torch_utils'},
    'synthesis': {'dnnlib', 'torch_utils', 'training'},
}
SCRIPTS = sorted(path.stem for path in ROOT.glob('*.py'))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split('.')[0])
    return names


@pytest.mark.parametrize('package', BELOW)
def test_imports_run_one_way(package: str) -> None:
    for path in (ROOT / package).rglob('*.py'):
        ours = imported(path) & (BELOW.keys() | set(SCRIPTS))
        assert ours <= BELOW[package] | {package}, path


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_are_thin(script: str) -> None:
    path = ROOT / f'{script}.py'
    assert not imported(path) & set(SCRIPTS), 'a script imports no other script'
    text = path.read_text(encoding='utf-8')
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    declarations = sum(  # of options: the formatter gives each argument a line
        decorator.end_lineno - decorator.lineno + 1
        for function in functions
        for decorator in function.decorator_list
        if decorator.end_lineno is not None
    )
    assert text.count('\n') - declarations <= 150
    assert 'main' in {function.name for function in functions}
