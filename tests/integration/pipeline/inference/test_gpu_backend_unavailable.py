"""A process that runs on the CPU loads nothing of a GPU's."""

from __future__ import annotations

import subprocess
import sys


def test_the_cpu_s_path_imports_nothing_of_a_gpu():
    code = (
        "import sys\n"
        "from sluice.pipeline.inference.session import open_session\n"
        "from sluice.pipeline.inference.repository import find_model\n"
        "open_session(find_model('wafer-tagger'), 'onnxruntime:cpu', 'here').close()\n"
        "import sluice.pipeline.service.daemon\n"
        "names = ('pynvml', 'tensorrt', 'cuda', 'numba.cuda', 'numba_cuda')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
