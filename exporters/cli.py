"""The offline commands: simulate, train, export, evaluate, build-engine.

Each imports what it needs when it is called, so that this module costs the command line nothing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

FamilyName = Annotated[str, typer.Argument(metavar="FAMILY", help="Model family, as in `wafers`.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line `app`."""
    app.command(epilog="Example: sluice simulate wafers --out wafers.arrows")(simulate)
    app.command(epilog="Example: sluice train wafers --quick")(train)
    app.command(epilog="Example: sluice export wafers --out models")(export)
    app.command(epilog="Example: sluice evaluate wafers --json --plots plots")(evaluate)
    app.command("build-engine", epilog="Example: sluice build-engine wafer-tagger")(build_engine)


def simulate(
    family: FamilyName,
    out: Annotated[Path, typer.Option(help="Recording to write.")],
    events: Annotated[int, typer.Option(min=0, help="How many events.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same events.")] = 1,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Side by side, else the family's number.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a file that was cut short.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing recording.")] = False,
) -> None:
    """Write a recording of simulated events, with their truth."""
    from sluice.exporters.families.base import get
    from sluice.exporters.simulation.record import record

    record(get(family), events, seed, out, processes=processes, resume=resume, force=force)


def train(
    family: FamilyName,
    out: Annotated[Path | None, typer.Option(help="Checkpoints, else checkpoints/FAMILY.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small and crude, in under a minute.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="Instead of the family's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Losses as JSON.")] = False,
) -> None:
    """Train every net of a family, by its recipe."""
    from sluice.exporters.families.base import TrainOptions, get

    chosen = get(family)
    require("torch", *chosen.packages)
    folder = out or Path("checkpoints") / family
    losses = chosen.train(TrainOptions(folder, seed, quick, resume, recipe))
    show(losses, "validation loss", as_json)


def export(
    family: FamilyName,
    checkpoints: Annotated[Path | None, typer.Option(help="Else checkpoints/FAMILY.")] = None,
    out: Annotated[Path, typer.Option(help="Model repository to write to.")] = Path("models"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace models of the family that are there.")
    ] = False,
) -> None:
    """Write trained nets as ONNX models with manifest and golden outputs."""
    from sluice.exporters.families.base import get

    chosen = get(family)
    require("torch", "onnx", "onnxscript", "onnxruntime", *chosen.packages)
    if not force:
        _require_no_models(family, out)
    for folder in chosen.export(checkpoints or Path("checkpoints") / family, out):
        typer.echo(folder)


def evaluate(
    family: FamilyName,
    data: Annotated[
        Path | None, typer.Option(help="Events to evaluate on too, in the family's own form.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Metrics as JSON.")] = False,
) -> None:
    """Measure the models of a family in the repository, against truth and against baselines."""
    from sluice.exporters.families.base import EvaluateOptions, get

    chosen = get(family)
    require("onnxruntime", *chosen.packages, *(("matplotlib", "mplhep") if plots else ()))
    show(chosen.evaluate(EvaluateOptions(data, plots)), "value", as_json)


def build_engine(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME or NAME@VERSION.")],
    precision: Annotated[
        str | None, typer.Option(help="fp32, tf32, fp16 or int8, else the model's own.")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="MIN,OPT,MAX", help="Events at once, else the manifest's."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of plans, else SLUICE_ENGINES or the user's cache.")
    ] = None,
    layers: Annotated[Path | None, typer.Option(help="Write what each layer became, JSON.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier plan and report on layers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell of the plan as JSON.")] = False,
) -> None:
    """Build a TensorRT engine of a model for the GPU of this machine."""
    from sluice.pipeline.inference import tensorrt_plans
    from sluice.pipeline.inference.repository import find_model_by_label

    chosen = find_model_by_label(model)
    bits = tensorrt_plans.parse_precision(precision or chosen.manifest.precision)
    events = tensorrt_plans.parse_batch(batch) if batch else chosen.manifest.batch
    tensorrt_plans.require_tensorrt()
    from .conversion import tensorrt

    root = output or tensorrt_plans.folder()
    built = tensorrt.build(chosen, bits, events, root, layers, force=force)
    show(built.as_dict(), "plan", as_json)


def _require_no_models(family: str, repository: Path) -> None:
    """Raise ConfigError if a repository has models of a family."""
    from sluice.pipeline.core.errors import ConfigError

    manifests = sorted(repository.glob("*/*/manifest.toml"))
    found = [path for path in manifests if _family(path) == family]
    if found:
        raise ConfigError(
            f"{repository}: expected no models of family {family!r}, got {len(found)}: "
            f"{found[0].parent.relative_to(repository)} and so on",
            hint="`--force` replaces them; `--out` names another repository",
        )


def _family(manifest: Path) -> str | None:
    """Return the family that a manifest names; None if it cannot be read."""
    try:
        family = tomllib.loads(manifest.read_text(encoding="utf-8")).get("family")
    except (OSError, ValueError):
        return None
    return family if isinstance(family, str) else None


def require(*packages: str) -> None:
    """Refuse a command whose packages are not installed; keep torch, if it is one, to one core.

    Raises
    ------
    ConfigError
        Naming the package and the extra that installs it.
    """
    from importlib.util import find_spec

    from sluice.pipeline.core.errors import ConfigError

    for package in packages:
        if find_spec(package) is None:
            extra = "cpu" if package == "onnxruntime" else "train"
            hint = f"pip install 'sluice-daq[{extra}]'"
            raise ConfigError(f"package {package!r} is needed here and is not installed", hint)
    if "torch" in packages:
        import torch

        # More threads make nets this small slower.
        torch.set_num_threads(1)


def show(values: Mapping[str, Any], heading: str, as_json: bool) -> None:
    """Print named numbers, nested or not, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", heading)
    for name, value in _flat("", values):
        table.add_row(name, value if isinstance(value, str) else f"{value:.6g}")
    Console().print(table)


def _flat(prefix: str, values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, list):
        values = {str(index): value for index, value in enumerate(values)}
    if not isinstance(values, dict):
        yield prefix, values
        return
    for name, value in values.items():
        yield from _flat(f"{prefix}.{name}" if prefix else name, value)
