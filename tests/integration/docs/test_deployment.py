"""What is shipped for installation: pins, wheel, container, systemd unit, scrape configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from sluice.pipeline.cli.main import app
from sluice.pipeline.config.graph_file import load_graph


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def _run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned(root: Path, project: dict[str, Any]) -> None:
    pins = _pins(root / "constraints.txt")
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["cpu"], *extras["train"], *extras["dev"]]
    assert _names(wanted) <= _names(pins)
    assert "torch==2.13.0" in pins


def test_what_a_gpu_needs_is_pinned_beside_it(root: Path, project: dict[str, Any]) -> None:
    pins, all_pins = _pins(root / "constraints-gpu.txt"), _pins(root / "constraints.txt")
    wanted = project["project"]["optional-dependencies"]["gpu"]
    assert _names(wanted) <= _names([*pins, *all_pins])
    assert not _names(pins) & _names(all_pins)
    (ours,) = (pin for pin in pins if pin.startswith("tensorrt-cu13=="))
    (asked,) = (line for line in wanted if line.startswith("tensorrt-cu13=="))
    assert ours.startswith(asked.removesuffix("*"))


def _pins(file: Path) -> list[str]:
    pins = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert pins == sorted(pins, key=str.lower)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins), pins
    return pins


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[\s<>=!~\[;]", one)[0]) for one in requirements}


@pytest.fixture(scope="session")
def wheel(root: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A wheel of the checkout, unpacked; built from a copy, so that nothing stale gets in."""
    folders = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]

    def build(out: Path) -> None:
        source = out / "source"
        for folder in folders["package-dir"].values():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / folder, source / folder, ignore=ignored)
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(root / name, source)
        _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
             "--wheel-dir", str(out), ".", cwd=source, PYTHONWARNINGS="ignore")  # fmt: skip
        (built,) = out.glob("*.whl")
        zipfile.ZipFile(built).extractall(out / "site")

    return once("wheel", build) / "site"


def test_wheel_has_every_file(root: Path, project: dict[str, Any], wheel: Path) -> None:
    for package, folder in project["tool"]["setuptools"]["package-dir"].items():
        installed = wheel / package.replace(".", "/")
        for path in (root / folder).rglob("*"):
            script = folder == "benchmarks" and path.parent != root / folder
            if path.is_file() and "__pycache__" not in path.parts and not script:
                assert (installed / path.relative_to(root / folder)).is_file(), path
    assert list(wheel.glob("*.dist-info/licenses/LICENSE"))


def test_wheel_holds_models_and_no_studies(wheel: Path) -> None:
    models = wheel / "sluice" / "models"
    for path in wheel.rglob("*.npz"):
        assert len(path.relative_to(models).parts) == 3, path
    assert not list((wheel / "sluice" / "pipeline").rglob("*bench*"))


def test_wheel_is_small(wheel: Path) -> None:
    (built,) = wheel.parent.glob("*.whl")
    assert built.stat().st_size <= 6_000_000


def test_model_repository_holds_nothing_but_models(root: Path) -> None:
    named = {"__init__.py", "py.typed"}
    for path in (root / "models").rglob("*"):
        parts = path.relative_to(root / "models").parts
        if path.is_file() and "__pycache__" not in parts:
            assert parts[-1] in named or (len(parts) == 3 and parts[1].isdecimal()), path


@pytest.mark.long
def test_wheel_works_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    code = (
        "import sys, sluice.pipeline, sluice.models\n"
        "from sluice.pipeline.cli.main import main\n"
        f"assert sluice.pipeline.__file__.startswith({str(wheel)!r})\n"
        f"assert sluice.models.__file__.startswith({str(wheel)!r})\n"
        "main()"
    )
    said = _run(sys.executable, "-c", code, "check", "hgcal", cwd=tmp_path, PYTHONPATH=str(wheel))
    assert "every join fits" in said


def _targets(root: Path) -> dict[str, str]:
    """The steps of each target of the Dockerfile, without comments, lines joined."""
    text = re.sub(r"^#.*\n", "", (root / "Dockerfile").read_text(), flags=re.M)
    text = text.replace("\\\n", " ")
    return {stage.split("\n")[0].split(" AS ")[1]: stage for stage in text.split("FROM ")[1:]}


def test_container_is_built_from_what_the_wheel_needs(root: Path, project: dict[str, Any]) -> None:
    wheel = _targets(root)["wheel"]
    let_in = (root / ".dockerignore").read_text().splitlines()
    folders = project["tool"]["setuptools"]["package-dir"].values()
    for name in (*folders, "pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt"):
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", wheel, re.M), name
        assert f"!{name}" in let_in, name
    assert "!constraints-gpu.txt" in let_in


def test_container_has_a_target_for_the_cpu_and_one_for_gpus(
    root: Path, project: dict[str, Any]
) -> None:
    targets = _targets(root)
    assert list(targets)[-1] == "runtime"  # what is built where none is named
    assert '\nENTRYPOINT ["sluice"]\n' in targets["system"]
    for name, extra, files in (
        ("runtime", "cpu", ["constraints.txt"]),
        ("gpu", "gpu", ["constraints.txt", "constraints-gpu.txt"]),
    ):
        steps = targets[name]
        assert steps.startswith("system AS ")
        assert f'"$(echo /wheels/*.whl)[{extra}]"' in steps
        assert extra in project["project"]["optional-dependencies"]
        assert re.findall(r"--constraint /(\S+)", steps) == files
        assert re.findall(r"source=(constraints\S*),", steps) == files
        assert all((root / file).is_file() for file in files)
        assert re.search(r"^USER (?!root)\w+\nRUN \[\"sluice\", \"check\"", steps, re.M)
    for variable in ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"):
        assert variable in targets["gpu"]


@pytest.mark.programs("promtool")
def test_scrape_configuration(root: Path) -> None:
    said = _run("promtool", "check", "config", "deploy/prometheus/prometheus.yml", cwd=root)
    assert "SUCCESS" in said


@pytest.mark.programs("promtool")
def test_alerts(root: Path) -> None:
    said = _run("promtool", "test", "rules", "deploy/prometheus/rules.test.yml", cwd=root)
    assert "SUCCESS" in said


def test_scraped_address_is_the_shipped_graph_s(root: Path) -> None:
    text = (root / "deploy" / "prometheus" / "prometheus.yml").read_text()
    assert f'targets: ["{load_graph("hgcal").http.listen}"]' in text


@pytest.mark.programs("systemd-analyze")
def test_systemd_unit(root: Path, tmp_path: Path) -> None:
    text = (root / "deploy" / "systemd" / "sluice@.service").read_text()
    unit = tmp_path / "sluice@.service"
    unit.write_text(text.replace("/opt/sluice/bin/sluice", sys.executable))
    more = tmp_path / "sluice@.service.d"
    more.mkdir()
    shutil.copy(root / "deploy" / "systemd" / "gpu.conf", more)
    said = _run("systemd-analyze", "verify", "--recursive-errors=no", str(unit), cwd=tmp_path)
    assert "sluice@" not in said, said
    assert said == ""


def test_systemd_unit_allows_what_libzmq_needs(root: Path) -> None:
    text = (root / "deploy" / "systemd" / "sluice@.service").read_text()
    (before, families) = re.findall(r"^((?:#.*\n)+)RestrictAddressFamilies=(.*)$", text, re.M)[0]
    assert families.split() == ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]
    assert "AF_NETLINK" in before
    assert "libzmq" in before


def test_systemd_unit_waits_for_the_daemon_s_word(root: Path) -> None:
    text = (root / "deploy" / "systemd" / "sluice@.service").read_text()
    assert re.search(r"^Type=notify$", text, re.M)
    assert re.search(r"^WatchdogSec=60s$", text, re.M)


def test_systemd_unit_calls_the_command_as_it_is(root: Path) -> None:
    text = (root / "deploy" / "systemd" / "sluice@.service").read_text()
    (line,) = re.findall(r"^ExecStart=\S+/sluice run \S+ (.*)$", text, re.M)
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    known = {option for parameter in run.params for option in parameter.opts}
    assert set(re.findall(r"--[\w-]+", line)) <= known
