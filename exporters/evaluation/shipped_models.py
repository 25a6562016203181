"""Figures of models as they are in the repository: what manifests say, and evaluations find."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sluice.exporters.conversion.onnx_runner import Runner

Metrics = dict[str, float]
#: Suffixes of the names of models in smaller numbers.
VARIANTS = ("-int8", "-fp16")


def measure_models(
    models: Mapping[str, Runner], measure: Callable[[str, Runner], Metrics]
) -> dict[str, Metrics]:
    """Return the figures of each model by name, those of variants with their losses."""
    return with_losses({name: measure(name, model) for name, model in models.items()})


def with_losses(found: Mapping[str, Metrics]) -> dict[str, Metrics]:
    """Return figures by model, those of variants with their losses against the whole model."""
    return {name: table | _losses_of(name, found) for name, table in found.items()}


def losses(whole: Metrics, variant: Metrics) -> Metrics:
    """Return what a variant loses of each figure, as ``<name>_loss``; errors are no figures.

    Examples
    --------
    >>> losses({"auc": 0.75, "auc_error": 0.01}, {"auc": 0.5, "auc_error": 0.02})
    {'auc_loss': 0.25}
    """
    figures = (name for name in variant if not name.endswith("_error"))
    return {f"{name}_loss": whole[name] - variant[name] for name in figures}


def _losses_of(name: str, found: Mapping[str, Metrics]) -> Metrics:
    for suffix in VARIANTS:
        whole = name.removesuffix(suffix)
        if whole != name and whole in found:
            return losses(found[whole], found[name])
    return {}
