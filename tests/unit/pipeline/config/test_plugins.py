"""What a graph file may use is found by name: entry points, and the modules of our detectors."""

import pytest

from sluice.pipeline.config.plugins import available, load_class
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.detectors.wafer import Emd, Unpack
from sluice.pipeline.stages.menu import Menu


def test_a_detector_s_stages_and_monitors_are_found_by_its_module():
    assert load_class("stage", "wafer.unpack", "here") is Unpack
    assert load_class("monitor", "wafer.emd", "here") is Emd
    assert load_class("stage", "menu", "here") is Menu


def test_all_names_are_known():
    assert {"menu", "infer", "wafer.unpack", "wafer.pack"} <= set(available("stage"))
    assert available("monitor") == [name for name in available("monitor") if "." in name]
    for kind in ("stage", "monitor", "source", "sink"):
        for name in available(kind):
            assert load_class(kind, name, "here").Options


@pytest.mark.parametrize(
    "use", ["wafer.unpak", "waffer.unpack", "wafer", "wafer.", ".unpack", "os"]
)
def test_a_wrong_name_is_refused_and_the_nearest_told(use):
    with pytest.raises(ConfigError, match="no stage is called") as refused:
        load_class("stage", use, "here")
    assert refused.value.hint
