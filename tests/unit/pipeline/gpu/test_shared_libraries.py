"""What a library needs is read from it, found in wheels, loaded in its order, or named."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import numba._helperlib as compiled
import pytest

from sluice.pipeline.gpu import shared_libraries


@pytest.fixture
def build(tmp_path):
    """Return what makes a library ``lib<name>-<unique>.so.1`` that needs others."""
    unique = uuid.uuid4().hex

    def make(name: str, folder: Path, *needs: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / f"lib{name}-{unique}.so.1"
        flags = ("-shared", f"-Wl,-soname,{library.name}", "-Wl,--no-as-needed")
        code = ("-x", "c", "/dev/null", "-x", "none")
        command = ["gcc", *flags, "-o", str(library), *code, *map(str, needs)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return library

    return make


def test_needed_of_a_real_library():
    assert "libc.so.6" in shared_libraries.needed_libraries(Path(compiled.__file__))


@pytest.mark.parametrize("text", [b"", b"no library", b"\x7fELF\x02\x01" + bytes(80)])
def test_what_is_no_library(tmp_path, text):
    file = tmp_path / "lib.so"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=r"."):
        shared_libraries.needed_libraries(file)


@pytest.mark.programs("gcc")
def test_libraries_of_wheels_are_loaded_before_what_needs_them(build, tmp_path, monkeypatch):
    deep = build("deep", tmp_path / "deep" / "lib")
    mid = build("mid", tmp_path / "mid" / "lib", deep)
    top = build("top", tmp_path / "elsewhere", mid)
    assert shared_libraries.needed_libraries(top)[0] == mid.name
    assert list(shared_libraries.missing_libraries(top)) == [mid.name]
    shared_libraries.load.cache_clear()
    monkeypatch.setattr(shared_libraries, "wheel_folders", lambda: [deep.parent, mid.parent])
    assert shared_libraries.missing_libraries(top) == {}


@pytest.mark.programs("gcc")
def test_a_library_whose_own_needs_are_not_there_is_missing(build, tmp_path, monkeypatch):
    deep = build("deep", tmp_path / "deep" / "lib")
    mid = build("mid", tmp_path / "mid" / "lib", deep)
    top = build("top", tmp_path / "elsewhere", mid)
    deep.unlink()
    monkeypatch.setattr(shared_libraries, "wheel_folders", lambda: [mid.parent])
    ((name, why),) = shared_libraries.missing_libraries(top).items()
    assert name == mid.name
    assert deep.name in why


@pytest.mark.parametrize(
    ("name", "what", "command"),
    [
        ("libcuda.so.1", "driver", "nvidia-driver"),
        ("libcudart.so.13", "CUDA 13", "onnxruntime-gpu[cuda,cudnn]"),
        ("libcudnn.so.9", "cuDNN 9", "onnxruntime-gpu[cuda,cudnn]"),
        ("libnvinfer.so.10", "TensorRT 10.16", "tensorrt-cu13==10.16.*"),
        ("libnvonnxparser.so.10", "TensorRT 10.16", "tensorrt-cu13==10.16.*"),
    ],
)
def test_each_library_has_its_command(name, what, command):
    fix = shared_libraries.install_hint(name)
    assert what in fix.what
    assert command in fix.command
