"""The training loop: seeded, resumable, stops early."""

import json
from dataclasses import replace

import msgspec
import pytest

torch = pytest.importorskip("torch")

from sluice.exporters.training.loop import Job, Schedule, fit  # noqa: E402

pytestmark = pytest.mark.train

SCHEDULE = Schedule(epochs=6, rate=0.05, batch=32)


def job(schedule=SCHEDULE):
    torch.manual_seed(0)
    x = torch.rand(256, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    net = torch.nn.Linear(3, 1)
    return Job(
        "line",
        net,
        lambda rows: (net(rows[0]) - rows[1]).square().mean(),
        (x[64:], y[64:]),
        (x[:64], y[:64]),
        schedule,
    )


def weights(job):
    return torch.cat([value.reshape(-1) for value in job.module.state_dict().values()])


def test_training_learns_and_notes_each_pass(tmp_path):
    best = fit(job(), 1, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert best == min(line["valid"] for line in lines) < lines[0]["valid"]
    assert (tmp_path / "line.pt").exists()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, second, other = job(), job(), job()
    fit(first, 1, tmp_path / "a")
    fit(second, 1, tmp_path / "b")
    fit(other, 2, tmp_path / "c")
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, broken = job(), job()
    fit(whole, 1, tmp_path / "whole")

    calls = 0

    def failing(rows):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return job_loss(rows)

    job_loss = broken.loss
    with pytest.raises(KeyboardInterrupt):
        fit(replace(broken, loss=failing), 1, tmp_path / "broken")
    resumed = job()
    fit(resumed, 1, tmp_path / "broken", resume=True)
    assert torch.equal(weights(whole), weights(resumed))


def test_a_finished_training_is_not_repeated(tmp_path):
    fit(job(), 1, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    again = job()
    fit(again, 1, tmp_path, resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert torch.equal(
        weights(again),
        torch.cat(
            [v.reshape(-1) for v in torch.load(tmp_path / "line.pt", weights_only=True).values()]
        ),
    )


def test_training_stops_when_it_gets_no_better(tmp_path):
    stuck = job(Schedule(epochs=50, rate=1e-12, batch=32, patience=2))
    frozen = replace(stuck, loss=lambda rows: stuck.module(rows[0]).square().mean() * 0 + 1.0)
    fit(frozen, 1, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_the_last_weights_are_kept_where_no_loss_says_which_are_best(tmp_path):
    # The validation events say the opposite of the training's: each pass makes it worse.
    turned = job(msgspec.structs.replace(SCHEDULE, patience=1, keep_last=True))
    turned = replace(turned, valid=(turned.valid[0], -turned.valid[1]))
    fit(turned, 1, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == SCHEDULE.epochs
    with torch.no_grad():
        assert turned.loss(turned.valid).item() == pytest.approx(lines[-1]["valid"], rel=1e-5)
    assert lines[-1]["valid"] > 1.2 * lines[0]["valid"]
