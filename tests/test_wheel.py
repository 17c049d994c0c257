"""The wheel works alone: it carries conf/ and the data that the package reads."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout and unpacked."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=120)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(installed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Plain Python: this test is about files, and compiling for another path takes long.
    plain = {"PYTHONPATH": str(installed), "NUMBA_DISABLE_JIT": "1", "NO_COLOR": "1"}
    environment = {**os.environ, **plain}
    command = [sys.executable, "-m", "sbs_gym.cli", *words]
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_wheel_carries_every_configuration_and_data_file(installed):
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert (installed / "sbs_gym" / "conf" / path.relative_to(ROOT / "conf")).is_file()
    for path in (ROOT / "sbs_gym").rglob("*.csv"):
        assert (installed / path.relative_to(ROOT)).is_file()
    assert not (installed / "tests").exists()
    assert not (installed / "agents").exists()


def test_the_wheel_runs_in_an_empty_folder(installed, tmp_path):
    words = ("timing=linear", "num_requests=200", "scheduler=sbs", "output_dir=out")
    found = run(installed, tmp_path, "simulate", *words)
    assert found.returncode == 0, found.stderr
    assert "TTFT" in found.stdout
    assert {"summary.json", "requests.parquet"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_the_wheel_reads_its_own_configuration(installed, tmp_path):
    code = "from sbs_gym.config.groups import conf_directory; print(conf_directory())"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == installed / "sbs_gym" / "conf"
