"""What `import sluice` costs."""

from __future__ import annotations

import subprocess
import sys


def test_import_is_quick_and_brings_nothing():
    script = (
        "import sys, sluice\n"
        "heavy = {'numpy', 'pyarrow', 'msgspec', 'zmq', 'sluice.pipeline'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert sluice.__version__ and set(sluice.__all__) <= set(dir(sluice))\n"
        "try: sluice.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
