"""What every test shares: one thread per process, and data only where somebody has it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

# Read once, when the OpenMP runtime and matplotlib are loaded, so before torch is. Processes that
# joblib starts inherit them. Tiny graphs on two threads that spin cost up to a hundred times more.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch
from pretend_device import pretend_device, real_device

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Triton, where it is installed, interprets its kernels; it looks when it is first imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

DATA_VARIABLE = "SKMMG_DATA"


@pytest.fixture(scope="session")
def data_folder() -> Callable[[str], Path]:
    """Give the folder of a data set that is not shipped, or skip the test where there is none."""

    def find(name: str) -> Path:
        root = os.environ.get(DATA_VARIABLE)
        if root is None:
            pytest.skip(f"{DATA_VARIABLE} names no folder with research data")
        folder = Path(root) / name
        if not folder.is_dir():
            pytest.skip(f"{folder} does not exist")
        return folder

    return find


@pytest.fixture(
    params=[
        pytest.param(pretend_device, id="pretended"),
        pytest.param(real_device, id="real", marks=pytest.mark.gpu),
    ]
)
def on_device(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[Any]]:
    """What has a device "cuda" within: a pretended one, or, in tests marked "gpu", a real one."""
    return request.param


@pytest.fixture
def local_qdrant() -> Iterator[None]:
    """Collect what Qdrant's local mode leaves open before another test runs.

    It drops the connection of a deleted collection without closing it, and Python 3.13 warns of
    that whenever it is collected; tests that take this fixture ignore the warning.
    """
    yield
    gc.collect()
