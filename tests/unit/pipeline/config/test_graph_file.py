"""Graph files: what is wrong is named, with the place, what was expected, and the nearest word."""

from __future__ import annotations

import pytest

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.config.graph_file import load_graph, parse_graph
from sluice.pipeline.core.endpoints import parse_host_port, require_loopback
from sluice.pipeline.core.errors import ConfigError, did_you_mean


def refusal(text, origin="my.toml"):
    with pytest.raises(ConfigError) as caught:
        parse_graph(text, origin)
    assert origin in caught.value.message
    return str(caught.value)


def test_the_shipped_graph_is_typed():
    config = load_graph("hgcal")
    assert config.graph.name == "hgcal"
    assert [part.name for part in config.stages] == [
        "unpack", "normalise", "encode", "pack", "tag", "menu",
    ]  # fmt: skip
    assert config.source.use == "live"
    assert config.stages[2].options == {
        "model": "wafer-encoder-9b",
        "ladder": ["wafer-encoder-9b-half", "wafer-encoder-9b-quarter", "no-model"],
        "backend": "layers",
    }
    assert config.origin.endswith("hgcal.toml")


@pytest.mark.parametrize(
    ("table", "key", "near"),
    [
        ("graph", "batch_event", "batch_events"),
        ("graph", "latency_budge", "latency_budget"),
        ("workers", "compte", "compute"),
        ("workers", "stall_timout", "stall_timeout"),
        ("http", "lisen", "listen"),
    ],
)
def test_unknown_keys_of_tables(hgcal, to_toml, table, key, near):
    tables = hgcal()
    tables[table][key] = 1
    text = refusal(to_toml(tables))
    assert repr(key).strip("'") in text
    assert f"did you mean {near!r}?" in text


def test_unknown_tables(hgcal, to_toml):
    text = refusal(to_toml({**hgcal(), "stages": [{"use": "menu"}]}))
    assert "stages" in text
    assert "did you mean 'stage'?" in text


@pytest.mark.parametrize(
    ("place", "key", "near"),
    [
        (("source",), "lisen", "listen"),
        (("source",), "column", "columns"),
        (("stage", 2), "modl", "model"),
        (("stage", 3), "bit", "bits"),
        (("stage", 5), "passthrough", "pass_through"),
        (("stage", 5, "path", 0), "prescal", "prescale"),
        (("monitor", 0), "sampel", "sample"),
        (("sink",), "keeps", "keep"),
    ],
)
def test_unknown_keys_of_parts(hgcal, to_toml, place, key, near):
    """Parts check their own options when they are built."""
    from sluice.pipeline.config.plugins import build

    tables = hgcal()
    table = tables
    for step in place:
        table = table[step]
    table[key] = 1
    config = parse_graph(to_toml(tables), "my.toml")
    kind = place[0]
    part = {"source": config.source, "sink": config.sink}.get(kind)
    if part is None:
        part = (config.stages if kind == "stage" else config.monitors)[place[1]]
    with pytest.raises(ConfigError) as caught:
        build(kind, part, config.origin)
    text = str(caught.value)
    assert key in text
    assert f"did you mean {near!r}?" in text
    assert repr(part.name) in text
    assert "my.toml" in text


@pytest.mark.parametrize(
    ("table", "key", "value", "word"),
    [
        ("graph", "batch_events", 0, "batch_events"),
        ("graph", "batch_events", 1 << 21, "batch_events"),
        ("graph", "batch_events", "many", "batch_events"),
        ("graph", "window", 0, "window"),
        ("graph", "latency_budget", "5 lightyears", "latency_budget"),
        ("graph", "latency_budget", "fast", "latency_budget"),
        ("graph", "latency_budget", "-1 ms", "latency_budget"),
        ("graph", "latency_budget", 5, "latency_budget"),
        ("workers", "compute", 0, "compute"),
        ("workers", "restarts", -1, "restarts"),
        ("workers", "stall_timeout", "", "stall_timeout"),
    ],
)
def test_values_that_cannot_be(hgcal, to_toml, table, key, value, word):
    tables = hgcal()
    tables[table][key] = value
    assert word in refusal(to_toml(tables))


def test_names_are_unique(hgcal, to_toml):
    tables = hgcal()
    tables["stage"][1]["name"] = "unpack"
    assert "'unpack'" in refusal(to_toml(tables))
    tables = hgcal()
    tables["monitor"][0]["name"] = "menu"
    assert "'menu'" in refusal(to_toml(tables))


def test_parts_need_a_use(hgcal, to_toml):
    for place in ("source", "sink"):
        tables = hgcal()
        del tables[place]["use"]
        assert f"{place}: expected a string `use`" in refusal(to_toml(tables))
    tables = hgcal()
    tables["stage"][3]["use"] = 5
    assert "stage 3: expected a string `use`, got 5" in refusal(to_toml(tables))
    tables["stage"][3] = {"use": "menu", "name": ""}
    assert "stage 3: expected a string `name`" in refusal(to_toml(tables))


def test_missing_tables_and_no_toml(hgcal, to_toml):
    for table in ("graph", "source", "sink"):
        tables = hgcal()
        del tables[table]
        assert table in refusal(to_toml(tables))
    assert "not TOML" in refusal("[graph\n")
    assert "not TOML" in refusal("a = 1\na = 2\n")


def test_no_such_graph(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'hgcal'"):
        load_graph("hgcall")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_graph(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.toml"):
        load_graph(str(tmp_path / "folder.toml"))
    (tmp_path / "latin.toml").write_bytes(b"[graph]\nname = '\xe4'\n")
    with pytest.raises(ConfigError, match=r"latin\.toml"):
        load_graph(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("5 ms", 5e-3), ("250us", 250e-6), ("1.5 s", 1.5), (" 2 min ", 120), ("1 h", 3600)],
)
def test_durations(text, value):
    assert parse_duration(text, "here") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "ms", "5 m", "five ms", "-1 s", "1e3 s", "5 ms 2 s"])
def test_bad_durations(text):
    with pytest.raises(ConfigError, match="here: expected a duration such as '5 ms'"):
        parse_duration(text, "here")


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "", "*", "192.168.1.5", "::", "[::]", "128.0.0.1", "example.com"),
        *("127.0.0.1.example.com", "127.example.com", "localhost.example.com"),
    ],
)
def test_hosts_that_others_can_reach_are_refused(host):
    with pytest.raises(ConfigError, match="loopback"):
        require_loopback(host, "http.listen")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_hosts_are_fine(host):
    require_loopback(host, "http.listen")


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
                                  "127.0.0.1:-1", ":9464", "9464", ""])  # fmt: skip
def test_bad_endpoints(text):
    with pytest.raises(ConfigError, match="here"):
        parse_host_port(text, "here")


def test_nearest_word():
    assert did_you_mean("recrding", ["recording", "csv"]) == "did you mean 'recording'?"
    assert did_you_mean("xyz", ["b", "a"]) == "known here: a, b"
    assert did_you_mean("xyz", []) is None
