"""Machine code of each GPU kernel by ptxas, and the bounds on its speed; needs no GPU.

Run `python benchmarks/cuda_kernels.py --markdown docs/gpu-kernels.md`; it takes half a minute and
wants numba-cuda and nvidia-cuda-nvcc. The bounds are arithmetic, no measurement.
"""

import argparse
import importlib
import json
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numba.cuda import compiler, types

import sluice.kernels.cuda
from sluice.kernels.cuda.launch import SIMULATED, WARP, Kernel

ARCHITECTURES = ("sm_80", "sm_90")
#: Memory bandwidth of an H100 with HBM3, bytes per second.
BANDWIDTH = 3.35e12
#: Limits of a multiprocessor of sm_90: warps, blocks, registers, shared memory in bytes.
WARPS, BLOCKS, REGISTERS, SHARED = 64, 32, 65536, 228 * 1024
#: Shared memory that the runtime reserves for each block, bytes.
SHARED_OF_BLOCK = 1024


class Code(NamedTuple):
    """Resources of a kernel's machine code, reported by ptxas."""

    registers: int
    spilled: int
    stack: int
    shared: int
    fused: int


def kernels() -> Iterator[Kernel]:
    """Yield every kernel of the package."""
    prefix = f"{sluice.kernels.cuda.__name__}."
    seen: set[str] = set()
    for module in pkgutil.walk_packages(sluice.kernels.cuda.__path__, prefix):
        if not module.name.endswith(("intrinsics_simulated", "simulator")):
            found = vars(importlib.import_module(module.name)).values()
            for value in found:
                if isinstance(value, Kernel) and value.name not in seen:
                    seen.add(value.name)
                    yield value


def assembler() -> Path:
    """Return ptxas of the package nvidia-cuda-nvcc."""
    for folder in importlib.import_module("nvidia").__path__:
        for found in Path(folder).glob("*/bin/ptxas"):
            return found
    raise SystemExit("no ptxas: pip install nvidia-cuda-nvcc")


def compiled(kernel: Kernel) -> dict[str, Code]:
    """Compile a kernel to PTX for each architecture, and that to machine code."""
    # Not by `cuda.compile`, which would do all but the last step anew for each architecture.
    library, _ = compiler._compile_pyfunc_with_fixup(
        kernel.function,
        types.void(*kernel.arguments),
        device=False,
        abi="numba",
        cc=(8, 0),
        launch_bounds=kernel.launch_bounds,
    )
    found = {}
    for name in ARCHITECTURES:
        (ptx,) = library.get_asm_strs(cc=(int(name[3:-1]), int(name[-1])))
        found[name] = assembled(kernel.name, name, ptx)
    return found


def assembled(kernel: str, architecture: str, ptx: str) -> Code:
    """Return the report of ptxas on a kernel's PTX."""
    if f".target {architecture}" not in ptx:
        raise SystemExit(f"{kernel}: expected PTX for {architecture}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            str(assembler()),
            f"-arch={architecture}",
            "-v",
            str(source),
            "-o",
            f"{source}.cubin",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"{kernel}: {done.stderr}")

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, done.stderr))

    return Code(
        registers=number(r"Used (\d+) registers"),
        spilled=number(r"(\d+) bytes spill"),
        stack=number(r"(\d+) bytes stack frame"),
        shared=number(r"(\d+) bytes smem"),
        fused=len(re.findall(r"fma\.rn\.f32", ptx)),
    )


def occupancy(kernel: Kernel, code: Code) -> int:
    """Return the largest number of a kernel's warps on a multiprocessor of sm_90."""
    warps = kernel.threads // WARP
    of_warp = -(-code.registers * WARP // 256) * 256
    by_registers = REGISTERS // of_warp // warps
    by_shared = SHARED // (-(-code.shared // 128) * 128 + SHARED_OF_BLOCK)
    return warps * min(BLOCKS, WARPS // warps, by_registers, by_shared)


def describe(kernel: Kernel) -> dict[str, Any]:
    """Return a kernel's figures: resources, occupancy, traffic and the rate they allow."""
    codes = compiled(kernel)
    traffic = kernel.traffic
    return {
        "kernel": kernel.name,
        "module": kernel.function.__module__.rpartition(".")[2],
        "threads": kernel.threads,
        "code": {name: code._asdict() for name, code in codes.items()},
        "warps": occupancy(kernel, codes["sm_90"]),
        "event": traffic.event,
        "bytes_read": traffic.read,
        "bytes_written": traffic.written,
        "events_per_second": BANDWIDTH / (traffic.read + traffic.written),
    }


HEAD = """# Kernels for GPUs

What the compiler makes of the kernels in `kernels/cuda`, and what the memory of an H100 allows at
most. `python benchmarks/cuda_kernels.py --markdown docs/gpu-kernels.md` writes this page: NVVM
compiles each kernel to PTX for sm_80 and sm_90, ptxas that to machine code. **No GPU was used.**
The arithmetic of all kernels is tested in numba's simulator, by the properties that the CPU's
kernels are held to; what the host does to launch one, with a driver that only tells what it is
asked for.

- *Registers* of a thread, on sm_80 and sm_90. *Shared* memory of a block, bytes. No kernel spills
  registers to memory or has a stack frame; a test holds them to that.
- *Warps*: how many of a multiprocessor's 64 can be there at once on sm_90, as threads, registers
  and shared memory allow.
- *Bytes* that an event reads and writes, each counted once. *Bound*: events a second where these
  bytes are all that takes time, at 3.35 TB/s. It is arithmetic, no measurement.
- No product of float32 is fused with an addition: PTX allows that, and it would round otherwise
  than on the CPU.

"""
TAIL = """
How each kernel reads and writes memory, its docstring says. What the bound leaves out:

- `best_choice` sorts each wafer in registers, by 367 comparisons of two instructions: the fewer
  threads there are, the less of the memory's time they hide.
- `emd` and `emd_pairs` are far from the bound of memory. A pair of dense wafers takes dozens of
  searches and hundreds of their steps. Each step waits for a minimum over the warp (two reductions
  and a vote) and for shared memory, and depends on the one before: what counts is how many pairs
  are at work at once, and that the shared memory of a block limits.
- `pad` moves what the lists are long; the figures are for one example.
- The surrogates of the EMD take both wafers as they are: what features they have is computed in
  their graph, so that there is no kernel for features.
"""
TITLES = ("kernel", "threads", "registers", "shared", "warps", "event", "bytes", "bound, 1/s")


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page about kernels."""
    lines = [TITLES, len(TITLES) * ("---",)]
    for row in rows:
        registers = " / ".join(str(row["code"][name]["registers"]) for name in ARCHITECTURES)
        shared = f"{row['code']['sm_90']['shared']:,}"
        moved = f"{row['bytes_read']:,} + {row['bytes_written']:,}"
        bound = f"{row['events_per_second'] / 1e9:.2f} G"
        cells = (f"`{row['kernel']}`", row["threads"], registers, shared, row["warps"])
        lines.append((*map(str, cells), row["event"], moved, bound))
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return HEAD + table + TAIL


def main() -> None:
    """Compile all kernels; print and write their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    options = parser.parse_args()
    if SIMULATED:
        raise SystemExit("the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM")
    rows = [describe(kernel) for kernel in kernels()]
    text = json.dumps(rows, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    if options.markdown:
        options.markdown.write_text(page(rows))
    if not options.json and not options.markdown:
        print(text)


if __name__ == "__main__":
    main()
