"""Check a machine with a GPU: all tests, parity, throughput and latency, rooflines; in 8 minutes.

Each step is bounded and none hides another. Writes one JSON file, and tables in Markdown. Ends with
0 where every step passed, 1 where one did not, 8 where there is no GPU: at once, then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import probe
from steps import Step, run_all
from summary import insert, markdown

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
#: Time limit of all steps, s.
_LIMIT_S = 470.0


def groups(python: str) -> list[list[Step]]:
    """Return the steps: measurements run alone, comparisons in parallel."""

    def ours(script: str, *words: str) -> tuple[str, ...]:
        return (python, str(_HERE / script), *words, "--json", "{out}")

    # Built anew, and beside the user's.
    engines = {"SLUICE_ENGINES": str(_ROOT / "out" / "gpu-engines")}
    sluice = str(Path(python).parent / "sluice")
    tests = (python, "-m", "pytest", "-n", "8", str(_ROOT / "tests" / "gpu"))
    doctor = ("sh", "-c", '"$0" doctor --gpu --json > "$1"', sluice, "{out}")
    parity = [
        Step(f"parity {backend}", ours("parity.py", "--backend", backend), 130, engines)
        for backend in ("onnxruntime:cuda", "onnxruntime:tensorrt", "tensorrt")
    ]
    return [
        [Step("doctor", doctor, 30)],
        [Step("tests", tests, 150)],
        parity,
        [Step("kernels", ours("rooflines.py"), 45)],
        [Step("graphs", ours("graphs.py"), 140, engines)],
    ]


def main(argv: list[str] | None = None) -> int:
    """Run, write, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("out/gpu-check.json"))
    parser.add_argument("--page", type=Path, help="put the tables into this page too")
    options = parser.parse_args(argv)
    if missing := probe.main():
        return missing
    report = run_all(groups(sys.executable), _LIMIT_S, lambda text: print(text, flush=True))
    report = {"date": time.strftime("%Y-%m-%d", time.gmtime()), **report}
    write(report, options.json, options.page)
    return 0 if report["passed"] else 1


def write(report: dict[str, object], file: Path, page: Path | None) -> None:
    """Write the report as JSON, and its tables beside it and into a page."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n")
    tables = markdown(report)
    file.with_suffix(".md").write_text(tables)
    if page is not None:
        page.write_text(insert(page.read_text(), tables))
    print(tables)


if __name__ == "__main__":
    sys.exit(main())
