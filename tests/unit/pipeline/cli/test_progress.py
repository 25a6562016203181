"""Progress: drawn for who looks, one line at the end for a log."""

import threading

from sluice.pipeline.cli.common.progress import progress_bar


def test_a_log_gets_one_line_and_costs_no_thread(capsys):
    before = threading.active_count()
    with progress_bar(10, quiet=False) as update:
        for done in range(11):
            update(done, f"{done} of ten")
        assert threading.active_count() == before
        assert capsys.readouterr().err == ""
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "10 of ten" in said[0]


def test_quiet_prints_nothing(capsys):
    with progress_bar(None, quiet=True) as update:
        update(3, "three")
    assert capsys.readouterr() == ("", "")
