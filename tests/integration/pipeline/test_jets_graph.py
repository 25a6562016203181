"""Candidates of any number through the shipped jets graph: simulated-like ones, and CMS's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sluice.kernels.jets.observables import OBSERVABLES
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.detectors.jets import ETA, PHI, PT
from sluice.pipeline.recording import RecordingReader, RecordingWriter

EVENTS = 600


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events with 0 to 120 candidates; every fiftieth has none, and one is not a number."""
    rng = np.random.default_rng(11)
    counts = rng.integers(2, 120, EVENTS)
    counts[::50] = 0
    total = int(counts.sum())
    values = {
        "pt": rng.exponential(9.0, total),
        "eta": rng.normal(0.0, 0.4, total),
        "phi": rng.normal(0.5, 0.4, total),
    }
    values["pt"][100] = np.nan
    columns = {
        name: Ragged.from_counts(array.astype(np.float32), counts) for name, array in values.items()
    }
    number = np.arange(EVENTS, dtype=np.uint64)
    path = tmp_path_factory.mktemp("jets") / "candidates.arrows"
    with RecordingWriter(path, Schema((EVENT_ID, T_EVENT, PT, ETA, PHI))) as writer:
        columns |= {"event_id": number, "t_event": number.astype(np.int64)}
        writer.write(EventBatch(columns, EVENTS, 0))
    return path


def kept(path: Path) -> dict[int, tuple[float, ...]]:
    found = {}
    for batch in RecordingReader(path).batches():
        for n, event in enumerate(batch["event_id"]):
            found[int(event)] = (int(batch["decision"][n]), float(batch["signal"][n]))
    return found


def test_both_engines_decide_on_lists_alike_and_close_the_ledger(
    candidates, sluice, tmp_path, load_report
):
    found = {}
    for engine in ("inline", "distributed"):
        report, out = tmp_path / f"{engine}.json", tmp_path / f"{engine}.arrows"
        done = sluice(
            "replay", candidates, "--graph", "jets", "--engine", engine,
            "--report", report, "--out", out,
        )  # fmt: skip
        assert done.code == 0, done
        result = load_report(report)
        assert result["closed"]
        assert result["events"]["offered"] == EVENTS
        assert result["events"]["invalid"] == 1
        found[engine] = kept(out)
    assert found["inline"] == found["distributed"]
    assert len(found["inline"]) > 10


@pytest.mark.modules("uproot")
def test_candidates_of_a_real_experiment(data_dir, sluice, tmp_path, load_report):
    """Ten events with 1,344 to 2,492 candidates, weighted against pile-up."""
    report, out = tmp_path / "r.json", tmp_path / "o.arrows"
    graph = tmp_path / "all.toml"
    shipped = Path(__file__).parents[3] / "pipeline" / "graphs" / "jets.toml"
    graph.write_text(shipped.read_text().replace('keep = "accepted"', 'keep = "all"'))
    path = data_dir / "root" / "pfnano.root"
    done = sluice("replay", path, "--graph", graph, "--report", report, "--out", out)
    assert done.code == 0, done
    result = load_report(report)
    assert result["closed"]
    assert result["events"]["offered"] == 10
    assert result["events"]["invalid"] == 0
    (batch,) = RecordingReader(out).batches()
    assert batch["observables"].shape == (10, len(OBSERVABLES))
    import uproot

    # Its default handler leaves threads behind.
    handler = uproot.MultithreadedFileSource
    with uproot.open({str(path): None}, handler=handler, num_workers=1) as file:
        offline = file["Events"].arrays(["event", "FatJet_pt", "FatJet_eta", "FatJet_rawFactor"])
    for n, event in enumerate(batch["event_id"]):
        (row,) = np.flatnonzero(np.asarray(offline["event"]) == event)
        pt, eta, raw = (np.asarray(offline[f"FatJet_{k}"][row]) for k in ("pt", "eta", "rawFactor"))
        # Their jets are narrower and not trimmed, so agreement is rough.
        near = np.abs(eta - batch["jet"][n, 1]) < 0.1
        assert near.any()
        assert batch["jet"][n, 0] == pytest.approx((pt * (1 - raw))[near].max(), rel=0.15)
