"""Real files for the tests that can use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the studies' real files; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("JAXLSTM_TEST_DATA", DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (name a folder in JAXLSTM_TEST_DATA)")
    return folder
