"""The house's rules that a machine can check: who imports whom, thin scripts."""

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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


@functools.cache
def modules(package: str) -> dict[str, Path]:
    """The package's modules by dotted name; a sub-package is its `__init__`."""
    found = {}
    for path in (ROOT / package).rglob('*.py'):
        parts = path.relative_to(ROOT).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def imported_modules(package: str, name: str) -> Iterator[str]:
    """The package's modules that one of them names anywhere: in functions, or for type checkers."""
    known = modules(package)
    path = known[name]
    folder = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) + 1 - node.level] if node.level else []
            base = '.'.join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f'{base}.{alias.name}'
                if submodule in known:
                    yield submodule
                elif base in known:
                    yield base


@pytest.mark.parametrize('package', BELOW)
def test_modules_do_not_import_each_other_in_circles(package: str) -> None:
    """Imports under TYPE_CHECKING and in functions count as well."""
    graph = {name: {*imported_modules(package, name)} - {name} for name in modules(package)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(' -> '.join(error.args[1]))


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_are_thin(script: str) -> None:
    path = ROOT / f'{script}.py'
    assert not imported(path) & set(SCRIPTS), 'a script imports no other script'
    text = path.read_text(encoding='utf-8')
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    # declarations of options, signatures and docstrings: the formatter gives each argument a line
    declarations = sum(
        decorator.end_lineno - decorator.lineno + 1
        for function in functions
        for decorator in function.decorator_list
        if decorator.end_lineno is not None
    )
    signatures = sum(
        function.body[ast.get_docstring(function) is not None].lineno - function.lineno
        for function in functions
    )
    assert text.count('\n') - declarations - signatures <= 150
    assert 'main' in {function.name for function in functions}
