"""What preparing pictures imports: not PyTorch, which takes seconds in each worker process."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('package', ['dnnlib', 'dataset_tools'])
def test_no_module_of_the_package_imports_torch(package: str) -> None:
    code = f"""
import importlib, pkgutil, sys
import {package}
names = [info.name for info in pkgutil.walk_packages({package}.__path__, '{package}.')]
for name in names:
    importlib.import_module(name)
assert len(names) > 10, names
sys.exit('torch' in sys.modules)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, '-c', code], cwd=root).returncode == 0
