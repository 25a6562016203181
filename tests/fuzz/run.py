"""Fuzz the readers of foreign bytes: ``python tests/fuzz/run.py --seconds 60 [TARGET …]``.

With atheris (extra ``fuzz``) inputs are bred by the code that they reach, as far as that is Python;
without it they are mutations of the sound ones. What breaks a target is kept in the corpus, and
every test run tries it again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import pkgutil
import random
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        size = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        elif kind == 3:
            out[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
        elif out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _plain(target: str, seconds: float) -> None:
    """Mutate at random until time is over."""
    from targets import seeds, survive

    seed = random.randrange(2**32)
    rng, deadline, tried = random.Random(seed), time.monotonic() + seconds, 0
    inputs = [*seeds(target), *(path.read_bytes() for path in sorted((CORPUS / target).glob("*")))]
    while time.monotonic() < deadline:
        data = mutate(rng.choice(inputs), rng)
        try:
            survive(target, data)
        except BaseException:
            _keep(target, data)
            raise
        tried += 1
    print(f"{target}: {tried} inputs survived (seed {seed})")


def _guided(target: str, seconds: int) -> None:
    """Let atheris breed inputs until time is over; it ends the process."""
    import atheris

    import sluice.kernels

    for module in pkgutil.iter_modules(sluice.kernels.__path__):
        importlib.import_module(f"sluice.kernels.{module.name}")  # numba compiles plain code only
    with atheris.instrument_imports(include=["sluice.pipeline"], enable_loader_override=False):
        from targets import seeds, survive

    bred = HERE.parents[1] / "build" / "fuzz" / target
    bred.mkdir(parents=True, exist_ok=True)
    for data in seeds(target):
        (bred / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def one(data: bytes) -> None:
        try:
            survive(target, data)
        except BaseException:
            _keep(target, data)
            raise

    folders = [str(bred), *([str(CORPUS / target)] if (CORPUS / target).is_dir() else [])]
    atheris.Setup(
        ["fuzz", f"-max_total_time={seconds}", "-max_len=8192", "-print_final_stats=1",
         "-verbosity=0", f"-artifact_prefix={bred}-", *folders], one,
    )  # fmt: skip
    atheris.Fuzz()


def _keep(target: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    print(f"{target}: broken by {path}", flush=True)


def _end_of(command: list[str], timeout_s: float) -> str:
    """Run a command; return how it failed, in words, or nothing."""
    try:
        code = subprocess.run(command, check=False, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired:
        return f"BROKEN, no end after {timeout_s:.0f} s"
    return f"BROKEN, exit code {code}" if code else ""


def main() -> int:
    """Fuzz each target in a process of its own: a crash of one must not end the others."""
    options = _parse()
    sys.path.insert(0, str(HERE))
    try:
        import atheris  # noqa: F401

        guided = True
    except ImportError:
        guided = False
    if options.one:
        (_guided if guided else _plain)(options.targets[0], options.seconds)
        return 0
    from targets import TARGETS

    print(f"fuzzing {'with' if guided else 'without'} atheris, {options.seconds} s a target")
    broken = []
    for target in options.targets or TARGETS:
        command = [sys.executable, __file__, "--one", "--seconds", str(options.seconds), target]
        how = _end_of(command, options.seconds * 3 + 120)
        print(f"{target}: {how or 'fine'}", flush=True)
        if how:
            broken.append(target)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
