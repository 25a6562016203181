"""What a training leaves beside its checkpoints is read again; a folder holds one training."""

import re
from importlib import import_module

import msgspec
import pytest

pytest.importorskip("torch")

from sluice.exporters.training import provenance, recipes
from sluice.exporters.training.loop import METRICS
from sluice.exporters.training.provenance import Provenance
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.manifest import Training

FAMILIES = ("antihydrogen", "cosmics", "jets", "wafers")
TRAINING = Training(seed=3, dataset="few", dataset_sha256="ab" * 32, events=7, recipe_sha256="")


class Recipe(msgspec.Struct, frozen=True):
    """The smallest there is."""

    rate: float


NOTE = Provenance(TRAINING, Recipe(0.1))
LEFT = """{
  "training": {
    "seed": 3,
    "dataset": "few",
    "dataset_sha256": "%s",
    "events": 7,
    "commit": "",
    "recipe_sha256": ""
  },
  "recipe": {
    "rate": 0.1
  }
}""" % ("ab" * 32)
REFUSED = "another recipe, seed or simulation"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_what_its_training_wrote(family, tmp_path):
    of = import_module(f"sluice.exporters.families.{family}.recipe")
    recipe = of.load() if hasattr(of, "load") else recipes.load(of.PATH, of.Recipe)
    note = Provenance(TRAINING, recipe)
    provenance.claim_folder(tmp_path, note, resume=False)
    training = import_module(f"sluice.exporters.families.{family}.train")
    assert training.read_provenance(tmp_path) == note
    for broken, said in ((b"{", "truncated"), (b'{"training": 1}', "training")):
        (tmp_path / provenance.FILE).write_bytes(broken)
        with pytest.raises(ConfigError, match=said):
            training.read_provenance(tmp_path)
    (tmp_path / provenance.FILE).unlink()
    with pytest.raises(ConfigError, match=re.escape(provenance.FILE)) as refused:
        training.read_provenance(tmp_path)
    assert f"sluice train {family}" in str(refused.value)


def test_the_file_is_the_one_that_earlier_trainings_left(tmp_path):
    provenance.claim_folder(tmp_path, NOTE, resume=False)
    assert (tmp_path / provenance.FILE).read_text() == LEFT


def test_a_new_training_clears_an_earlier_one_s_nets_and_nothing_else(tmp_path):
    nets, other = (tmp_path / "net-0.pt", tmp_path / METRICS), tmp_path / "chunks.npz"
    for path in (*nets, other):
        path.touch()
    provenance.claim_folder(tmp_path, NOTE, resume=False)
    assert other.exists()
    assert not any(path.exists() for path in nets)


@pytest.mark.parametrize(
    "changed",
    [
        Provenance(TRAINING, Recipe(0.2)),
        Provenance(msgspec.structs.replace(TRAINING, seed=4), NOTE.recipe),
        Provenance(msgspec.structs.replace(TRAINING, dataset_sha256="cd" * 32), NOTE.recipe),
    ],
    ids=["recipe", "seed", "simulation"],
)
def test_a_training_is_resumed_by_itself_alone(changed, tmp_path):
    provenance.claim_folder(tmp_path, NOTE, resume=True)
    net = tmp_path / "net-0.pt"
    net.touch()
    provenance.claim_folder(tmp_path, NOTE, resume=True)
    before = (tmp_path / provenance.FILE).read_bytes()
    with pytest.raises(ConfigError, match=REFUSED):
        provenance.claim_folder(tmp_path, changed, resume=True)
    assert net.exists()
    assert (tmp_path / provenance.FILE).read_bytes() == before


def test_a_training_resumed_by_newer_code_keeps_the_commit_of_its_begin(tmp_path):
    for commit in ("12" * 20, "34" * 20):
        training = msgspec.structs.replace(TRAINING, commit=commit)
        provenance.claim_folder(tmp_path, Provenance(training, NOTE.recipe), resume=True)
    kept = provenance.read(tmp_path, Provenance[Recipe], "jets")
    assert kept.training.commit == "12" * 20


@pytest.mark.parametrize("broken", [b"", b"{", b"1", b"{}", b'{"training": 1}'])
def test_a_broken_note_is_not_resumed(broken, tmp_path):
    (tmp_path / provenance.FILE).write_bytes(broken)
    with pytest.raises(ConfigError, match=REFUSED):
        provenance.claim_folder(tmp_path, NOTE, resume=True)


def test_another_recipe_is_refused_before_events_are_made(tmp_path):
    provenance.require_same_training(tmp_path, NOTE.recipe, Provenance[Recipe], "jets")
    provenance.claim_folder(tmp_path, NOTE, resume=False)
    provenance.require_same_training(tmp_path, NOTE.recipe, Provenance[Recipe], "jets")
    with pytest.raises(ConfigError, match=REFUSED):
        provenance.require_same_training(tmp_path, Recipe(0.2), Provenance[Recipe], "jets")
