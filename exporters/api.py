"""Everything that authors of model families import beside `sluice.pipeline.api`.

What needs torch or onnx is imported when it is first used: a family is listed without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sluice.exporters.families import EvaluateOptions, Events, Family, LazyFunction, TrainOptions
from sluice.exporters.training.recipes import load as load_recipe

if TYPE_CHECKING:
    from sluice.exporters.conversion.onnx import Export as Export
    from sluice.exporters.conversion.onnx import serialise as serialise
    from sluice.exporters.conversion.onnx import write as write_export
    from sluice.exporters.conversion.onnx_runner import runner as runner
    from sluice.exporters.conversion.quantize import write_variants as write_variants
    from sluice.exporters.evaluation.classifier import auc as auc
    from sluice.exporters.evaluation.classifier import mean_and_spread as mean_and_spread
    from sluice.exporters.evaluation.classifier import roc as roc
    from sluice.exporters.evaluation.reference_data import folder as reference_data_folder
    from sluice.exporters.training.loop import Job as Job
    from sluice.exporters.training.loop import Schedule as Schedule
    from sluice.exporters.training.loop import fit as fit

__all__ = [
    "EvaluateOptions",
    "Events",
    "Export",
    "Family",
    "Job",
    "LazyFunction",
    "Schedule",
    "TrainOptions",
    "auc",
    "fit",
    "load_recipe",
    "mean_and_spread",
    "reference_data_folder",
    "roc",
    "runner",
    "serialise",
    "write_export",
    "write_variants",
]

#: Module and name there of what is imported on first use.
_LAZY = {
    "Export": ("conversion.onnx", "Export"),
    "Job": ("training.loop", "Job"),
    "Schedule": ("training.loop", "Schedule"),
    "auc": ("evaluation.classifier", "auc"),
    "fit": ("training.loop", "fit"),
    "mean_and_spread": ("evaluation.classifier", "mean_and_spread"),
    "reference_data_folder": ("evaluation.reference_data", "folder"),
    "roc": ("evaluation.classifier", "roc"),
    "runner": ("conversion.onnx_runner", "runner"),
    "serialise": ("conversion.onnx", "serialise"),
    "write_export": ("conversion.onnx", "write"),
    "write_variants": ("conversion.quantize", "write_variants"),
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _LAZY[name]
    return getattr(import_module(f"sluice.exporters.{module}"), original)
