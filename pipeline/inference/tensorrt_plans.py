"""Files of TensorRT plans, and the check that a plan was built for this model and machine.

A plan is machine code for one model on one kind of GPU. A JSON file beside it holds its
`Fingerprint`; the plan is used only if model, versions and GPU are the same.
"""

from __future__ import annotations

import hashlib
import os
import re
from importlib import import_module
from pathlib import Path

import msgspec
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.output_files import require_replaceable, write_whole
from sluice.pipeline.gpu.cuda import GpuInfo
from sluice.pipeline.gpu.shared_libraries import install_hint

from .manifest import BatchSizes
from .repository import Model

#: Precisions of a plan. ``tf32`` is fp32 whose products have mantissas of ten bits.
PRECISIONS = ("fp32", "tf32", "fp16", "int8")
#: Maximum absolute difference from the golden outputs, if the plan has fewer bits than the model.
TOLERANCE = {"fp32": 0.0, "tf32": 5e-3, "fp16": 5e-3, "int8": 5e-2}
#: Maximum batch size of a plan, events.
_MAX_EVENTS = 1 << 20


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """Shapes of an input: smallest, the one that the plan is tuned for, largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class Fingerprint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Model, versions and machine that a plan was built for."""

    model: str
    sha256: str
    precision: str
    tensorrt: str
    gpu: str
    capability: str
    driver: str
    profile: dict[str, Range]
    plan_sha256: str = ""


#: Fields of `Fingerprint` that must match, with their names in messages.
_MUST = {"sha256": "model", "tensorrt": "TensorRT", "gpu": "GPU", "capability": "capability",
         "driver": "CUDA driver"}  # fmt: skip


def require_tensorrt() -> None:
    """Raise ModelError if TensorRT, or a library that it needs, is not installed."""
    try:
        import_module("tensorrt")
    except ImportError as error:
        fix = install_hint("libnvinfer")
        raise ModelError(
            f"backend 'tensorrt': TensorRT cannot be loaded: {error}", f"{fix.what}: {fix.command}"
        ) from error


def parse_precision(text: str) -> str:
    """Return `text` if it is one of `PRECISIONS`; else raise ConfigError."""
    if text not in PRECISIONS:
        raise ConfigError(f"expected a precision of {', '.join(PRECISIONS)}, got {text!r}")
    return text


def parse_batch(text: str) -> BatchSizes:
    """Parse batch sizes ``MIN,OPT,MAX``, events; raise ConfigError if `text` has another form."""
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= _MAX_EVENTS:
        raise ConfigError(
            f"expected least, usual and most events, such as 1,1024,4096, got {text!r}",
            f"at most {_MAX_EVENTS} at once",
        )
    return BatchSizes(*sizes)


def folder() -> Path:
    """Return the folder of plans: ``SLUICE_ENGINES``, else one in the user's cache folder."""
    chosen = os.environ.get("SLUICE_ENGINES", "")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "sluice" / "engines"


def plan_file(root: Path, model: Model, precision: str, gpu: GpuInfo) -> Path:
    """Return the path of the plan of a model for a kind of GPU."""
    return root / model.label / f"{precision}-{slug(gpu.name)}.plan"


def timing_file(root: Path, gpu: GpuInfo, tensorrt: str) -> Path:
    """Return the path of the kernel timings of a kind of GPU."""
    return root / f"{slug(gpu.name)}-{tensorrt}.timing"


def build_command(model: Model, precision: str) -> str:
    """Return the command that builds a plan."""
    asked = "" if precision == model.manifest.precision else f" --precision {precision}"
    name = f"{model.manifest.name}@{model.manifest.version}"
    return f"sluice build-engine {name}{asked}"


def require_plan_replaceable(file: Path, *, force: bool) -> None:
    """Raise ConfigError if a plan cannot be written to a file, or may not replace what is there.

    With `force` an earlier plan is replaced: a file with a fingerprint beside it.
    """

    def is_plan(_: Path) -> bool:
        try:
            return bool(_read(file).sha256)
        except (OSError, msgspec.MsgspecError):
            return False

    for path in (file, _about(file)):
        require_replaceable(path, "a plan and its fingerprint", is_plan, force=force)


def save_plan(
    file: Path, plan: bytes, fingerprint: Fingerprint, *, replace: bool = False
) -> Fingerprint:
    """Write a plan and its fingerprint; return the fingerprint with the hash of the plan.

    Without `replace` RunError if there is a file meanwhile.
    """
    sealed = msgspec.structs.replace(fingerprint, plan_sha256=hashlib.sha256(plan).hexdigest())
    about = msgspec.json.format(msgspec.json.encode(sealed))
    write_whole(file, plan, replace=replace)
    write_whole(_about(file), about, replace=replace)
    return sealed


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that nobody reads a part of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_bytes(data)
    new.replace(file)


def load_plan(model: Model, precision: str, gpu: GpuInfo, tensorrt: str) -> bytes:
    """Return the plan of a model for this GPU and these versions.

    Raises
    ------
    ModelError
        If there is no plan, it was built for something else, or it is damaged. The hint is the
        command that builds it.
    """
    file = plan_file(folder(), model, precision, gpu)
    here = Fingerprint(
        model=model.label, sha256=model.manifest.digest, precision=precision,
        tensorrt=tensorrt, gpu=gpu.name, capability=gpu.capability,
        driver=gpu.driver, profile={},
    )  # fmt: skip
    command = build_command(model, precision)
    hint = f"rebuild: {command} --force"
    about = f"model {model.label}: {precision} plan"
    try:
        built = _read(file)
        plan = file.read_bytes()
    except FileNotFoundError as error:
        for other in sorted(file.parent.glob(f"{precision}-*.json")):
            _compare(about, _read(other), here, hint)
        raise ModelError(
            f"{about}: none for {gpu.name} in {file.parent}", f"build it: {command}"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"{about}: {file}: cannot read: {error}", hint) from error
    _compare(about, built, here, hint)
    if hashlib.sha256(plan).hexdigest() != built.plan_sha256:
        raise ModelError(f"{about}: {file}: damaged: its hash is another", hint)
    return plan


def _compare(about: str, built: Fingerprint, here: Fingerprint, hint: str) -> None:
    """Raise ModelError if a plan was built for something else."""
    differ = [name for name in _MUST if getattr(built, name) != getattr(here, name)]
    if differ:
        was, now = (
            ", ".join(f"{_MUST[name]} {getattr(of, name)[:40]}" for name in differ)
            for of in (built, here)
        )
        raise ModelError(f"{about}: plan was built for {was}; this is {now}", hint)


def _read(file: Path) -> Fingerprint:
    return msgspec.json.decode(_about(file).read_bytes(), type=Fingerprint)


def _about(file: Path) -> Path:
    return file.with_suffix(".json")


def slug(name: str) -> str:
    """Return `name` in lower case with dashes between words, for use in file names."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
