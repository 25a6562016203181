"""What a graph file may use is found by name: entry points, and the modules of our detectors."""

import pytest

from sluice.pipeline.config.plugins import load, names
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.detectors.wafer import Emd, Unpack
from sluice.pipeline.stages.menu import Menu


def test_a_detector_s_stages_and_monitors_are_found_by_its_module():
    assert load("stage", "wafer.unpack", "here") is Unpack
    assert load("monitor", "wafer.emd", "here") is Emd
    assert load("stage", "menu", "here") is Menu


def test_all_names_are_known():
    assert {"menu", "infer", "wafer.unpack", "wafer.pack"} <= set(names("stage"))
    assert names("monitor") == [name for name in names("monitor") if "." in name]
    for kind in ("stage", "monitor", "source", "sink"):
        for name in names(kind):
            assert load(kind, name, "here").Options


@pytest.mark.parametrize(
    "use", ["wafer.unpak", "waffer.unpack", "wafer", "wafer.", ".unpack", "os"]
)
def test_a_wrong_name_is_refused_and_the_nearest_told(use):
    with pytest.raises(ConfigError, match="no stage is called") as refused:
        load("stage", use, "here")
    assert refused.value.hint
