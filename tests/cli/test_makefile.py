"""`make` where Python is missing or too old."""

import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """An interpreter that reports an old version."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; *) echo used ;; esac\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("target", ["run", "test", "bench"])
@pytest.mark.parametrize("missing", [False, True])
def test_python_that_is_too_old_ends_in_one_line(
    old_python: Path, tmp_path: Path, target: str, missing: bool
) -> None:
    python = "" if missing else str(old_python)
    done = subprocess.run(
        ["make", "--silent", target, f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert f"kekd needs Python 3.11 or later, and '{python}' is none" in line
    assert not (tmp_path / "venv").exists()
