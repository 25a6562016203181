"""Simulated large-radius jets: a boosted resonance that decays to quarks, and QCD.

Pythia 8 makes proton collisions at 13 TeV with hadronisation, showers and underlying event, no
pile-up. FastJet finds and trims the jets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .detector import reconstruct_candidates

#: Jets: radius, smallest transverse momentum in GeV, largest pseudorapidity.
RADIUS, MIN_PT, REACH = 1.0, 350.0, 2.0
#: Trimming: radius of the subjets, smallest share of the jet's transverse momentum.
SUBJET, SHARE = 0.2, 0.05
#: A jet is the resonance's if its axis is at most this far from it.
MATCH = 0.75

# Collisions simulated at a time: limits, and the parts in which a number is simulated; few enough
# to bound memory, and not many more than are needed.
_MAX_BATCH, _MIN_BATCH, _PARTS = 250, 16, 4
_RESONANCE = 23


@dataclass(frozen=True)
class Sample:
    """One kind of collision.

    Attributes
    ----------
    mass
        Mass of the resonance, GeV; 0 for QCD.
    hardness
        Smallest transverse momentum of the hard scattering, GeV.
    """

    mass: int
    hardness: int

    @property
    def name(self) -> str:
        """Short name, such as ``z100-400`` or ``qcd-400``."""
        return f"z{self.mass}-{self.hardness}" if self.mass else f"qcd-{self.hardness}"

    @property
    def settings(self) -> list[str]:
        """Settings of Pythia."""
        common = [
            "Print:quiet = on",
            "Beams:eCM = 13000.",
            f"PhaseSpace:pTHatMin = {self.hardness}.",
            "Random:setSeed = on",
        ]
        if not self.mass:
            return [*common, "HardQCD:all = on"]
        return [
            *common,
            "WeakBosonAndParton:qqbar2gmZg = on",
            "WeakBosonAndParton:qg2gmZq = on",
            "WeakZ0:gmZmode = 2",
            f"{_RESONANCE}:m0 = {self.mass}.",
            f"{_RESONANCE}:mMin = {self.mass - 30}.",
            f"{_RESONANCE}:mMax = {self.mass + 30}.",
            f"{_RESONANCE}:onMode = off",
            f"{_RESONANCE}:onIfAny = 1 2 3 4 5",
        ]


def jets(sample: Sample, count: int, seed: int) -> dict[str, NDArray[Any]]:
    """Simulate `count` jets of a sample.

    Returns
    -------
    dict
        ``offsets`` (J + 1,) i64 into the constituents; ``pt`` (GeV), ``eta``, ``phi`` (C,) f32,
        hardest constituent first; and of each jet, (J,) f32: ``jet_pt``, ``jet_eta``, ``jet_mass``
        as found, ``trimmed_pt``, ``trimmed_mass``, GeV.
    """
    parts, found = [], 0
    for part in _batches(sample, seed, min(_MAX_BATCH, max(_MIN_BATCH, count // _PARTS))):
        parts.append(part)
        found += len(part["jet_pt"])
        if found >= count:
            break
    return _first(parts, count)


def _batches(sample: Sample, seed: int, collisions: int) -> Iterator[dict[str, NDArray[Any]]]:
    import pythia8mc

    pythia = pythia8mc.Pythia("", False)
    for line in [*sample.settings, f"Random:seed = {seed % 899_999_999 + 1}"]:
        pythia.readString(line)
    if not pythia.init():
        raise RuntimeError(f"Pythia does not start with {sample}")
    charged = _charges(pythia)
    rng = np.random.default_rng(seed)
    while True:
        yield _collide(pythia.nextBatch(collisions).prt, bool(sample.mass), charged, rng)


def _charges(pythia: Any) -> NDArray[np.int32]:
    """Return the PDG codes of charged particles."""
    data, codes, code = pythia.particleData, [], 1
    while code:
        if data.chargeType(code):
            codes.append(code)
        code = data.nextId(code)
    return np.array(codes, np.int32)


def _collide(
    particles: Any, resonant: bool, charged: NDArray[np.int32], rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    import awkward as ak

    events = len(particles)
    of = np.repeat(np.arange(events), ak.num(particles.id))
    flat = ak.flatten(particles)
    code, status = np.asarray(flat.id), np.asarray(flat.status)
    momentum = np.stack([np.asarray(flat.p[k]) for k in ("px", "py", "pz", "e")])
    stable = status > 0
    seen = reconstruct_candidates(
        of[stable],
        code[stable],
        momentum[:, stable],
        np.isin(np.abs(code[stable]), charged),
        rng,
    )
    axis = None
    if resonant:
        axis = np.zeros((2, events))
        boson = np.flatnonzero(code == _RESONANCE)
        # The last copy wins: the one that decays.
        px, py, pz, _ = momentum[:, boson]
        axis[:, of[boson]] = np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px)
    return generate_jets(seen, events, axis)


def generate_jets(
    seen: dict[str, NDArray[Any]], events: int, axis: NDArray[np.float64] | None
) -> dict[str, NDArray[Any]]:
    """Return the jets of some events' candidates, as `jets` does.

    Parameters
    ----------
    seen
        Columns of candidates that `reconstruct_candidates` returned.
    events
        Number of events.
    axis
        (2, N) η and φ of each event's resonance: then its jet alone is kept; else the two hardest.
    """
    import awkward as ak

    pt, eta, phi = (seen[k].astype(np.float64) for k in ("pt", "eta", "phi"))
    counts = np.bincount(seen["event"], minlength=events)
    found, members = _cluster(_momenta(pt, eta, phi, counts), "antikt_algorithm", RADIUS, MIN_PT)
    kept = abs(found.eta) < REACH
    if axis is not None:
        turned = np.abs(found.phi - axis[1])
        turned = np.minimum(turned, 2.0 * np.pi - turned)
        kept = kept & (np.hypot(found.eta - axis[0], turned) < MATCH)
    first = 1 if axis is not None else 2
    order = ak.argsort(found.pt, ascending=False)
    order = order[kept[order]][:, :first]
    found, members = found[order], members[order]
    start = np.concatenate([[0], np.cumsum(counts)])[:-1]
    index = ak.flatten(members + start, axis=1)
    sizes = np.asarray(ak.num(index))
    chosen = np.asarray(ak.flatten(index))
    # The hardest constituent first.
    jet = np.repeat(np.arange(len(sizes)), sizes)
    chosen = chosen[np.lexsort((-pt[chosen], jet))]
    columns = {k: seen[k][chosen] for k in ("pt", "eta", "phi")}
    whole = ak.flatten(found)
    trimmed_pt, trimmed_mass = _trim(pt[chosen], eta[chosen], phi[chosen], sizes)
    of_jets = {
        "jet_pt": whole.pt,
        "jet_eta": whole.eta,
        "jet_mass": whole.mass,
        "trimmed_pt": trimmed_pt,
        "trimmed_mass": trimmed_mass,
    }
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return {
        "offsets": offsets,
        **columns,
        **{k: np.asarray(v, np.float32) for k, v in of_jets.items()},
    }


def _momenta(pt: Any, eta: Any, phi: Any, counts: Any) -> Any:
    import awkward as ak
    import vector

    vector.register_awkward()
    fields = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "E": pt * np.cosh(eta),
    }
    return ak.unflatten(ak.zip(fields, with_name="Momentum4D"), counts)


def _cluster(momenta: Any, algorithm: str, radius: float, min_pt: float) -> tuple[Any, Any]:
    import fastjet
    from fastjet._swig import ClusterSequence

    # Its banner would go to standard output, which belongs to the commands.
    ClusterSequence.set_fastjet_banner_stream(None)
    definition = fastjet.JetDefinition(getattr(fastjet, algorithm), radius)
    sequence = fastjet.ClusterSequence(momenta, definition)
    return sequence.inclusive_jets(min_pt), sequence.constituent_index(min_pt)


def _trim(pt: Any, eta: Any, phi: Any, sizes: Any) -> tuple[Any, Any]:
    import awkward as ak

    momenta = _momenta(pt, eta, phi, sizes)
    subjets, _ = _cluster(momenta, "kt_algorithm", SUBJET, 0.0)
    total = ak.sum(momenta.px, axis=1), ak.sum(momenta.py, axis=1)
    kept = subjets[subjets.pt > SHARE * np.hypot(*total)]
    px, py, pz, energy = (ak.sum(getattr(kept, k), axis=1) for k in ("px", "py", "pz", "E"))
    squared = energy**2 - px**2 - py**2 - pz**2
    return np.hypot(px, py), np.sqrt(np.maximum(squared, 0.0))


def _first(parts: list[dict[str, NDArray[Any]]], count: int) -> dict[str, NDArray[Any]]:
    """Join jets and keep the first `count`."""
    sizes = np.concatenate([np.diff(part["offsets"]) for part in parts])[:count]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0] if k != "offsets"}
    ends = {"pt": offsets[-1], "eta": offsets[-1], "phi": offsets[-1]}
    return {"offsets": offsets, **{k: v[: ends.get(k, count)] for k, v in joined.items()}}
