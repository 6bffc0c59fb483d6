"""`import jaxlstm` costs nothing, and every public name is there."""

from __future__ import annotations

import configparser
import importlib
import pkgutil
import subprocess
import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest

import jaxlstm


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_import_alone_imports_nothing_heavy() -> None:
    run(
        "import sys, jaxlstm\n"
        "heavy = {'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'sklearn', 'pandas', 'matplotlib',"
        " 'scipy', 'rich', 'tyro'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert jaxlstm.__version__ and 'GridSearch' in dir(jaxlstm)\n"
        "assert not heavy & set(sys.modules), 'by dir()'"
    )


def test_no_name_starts_a_backend_or_draws() -> None:
    """All public names at once; JAX refuses this setting once a backend runs."""
    run(
        "import sys, jaxlstm\n"
        "for name in jaxlstm.__all__: getattr(jaxlstm, name)\n"
        "import jaxlstm.cli, jaxlstm.data, experiments.digits\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        "assert len(jax.devices()) == 2"
    )


def test_every_public_name_resolves() -> None:
    assert len(set(jaxlstm.__all__)) == len(jaxlstm.__all__)
    for name in jaxlstm.__all__:
        value = getattr(jaxlstm, name)
        assert value.__name__ == name
        assert name in dir(jaxlstm)
        assert value.__doc__
    with pytest.raises(AttributeError, match="module 'jaxlstm' has no attribute 'GridSerch'"):
        _ = jaxlstm.GridSerch
    namespace: dict[str, object] = {}
    exec("from jaxlstm import *", namespace)
    assert set(jaxlstm.__all__) <= set(namespace)


def test_one_package_is_installed() -> None:
    config = configparser.ConfigParser()
    root = Path(__file__).parents[1]
    config.read(root / "setup.cfg")
    include = config["options.packages.find"]["include"].split()
    packages = {path.parent.name for path in root.glob("*/__init__.py")}
    assert packages >= {"jaxlstm", "experiments"}
    installed = {name for name in packages if any(map(partial(fnmatch, name), include))}
    assert installed == {"jaxlstm"}


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(jaxlstm.__path__, "jaxlstm."):
        importlib.import_module(module.name)
