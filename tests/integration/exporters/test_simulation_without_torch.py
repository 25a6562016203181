"""Who only simulates needs neither torch nor what draws plots."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("family", "events", "column"),
    [("antihydrogen", 100, "strips"), ("cosmics", 100, "bars"), ("wafers", 70_000, "words")],
)
def test_simulating_needs_no_torch(family, events, column):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "from sluice.exporters.families.base import get\n"
        f"print(len(get({family!r}).block({events}, 1, 0)[{column!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(events)
