"""ONNX Runtime's execution providers for GPUs: requirements and options.

If a provider cannot be loaded, ONNX Runtime writes a line to stderr and runs the model on the CPU.
Therefore the libraries of a provider are loaded here first, and missing ones raise an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.gpu.shared_libraries import install_hint, missing_libraries

from .manifest import Tensor
from .onnx_file import OnnxFile, Shape
from .repository import Model

#: Providers by kind of device; each takes the nodes that those before it do not support.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
#: Shared library of each provider, in the folder of onnxruntime.
_LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
#: Libraries that a provider opens only for some models, when the run has already started.
_OPENED = ("libcudnn.so.9",)
_INSTALL = "pip uninstall -y onnxruntime && pip install 'sluice-daq[gpu]'"


def require(kind: str, number: int = 0) -> None:
    """Check that the providers of a kind of device can be loaded.

    Parameters
    ----------
    kind
        ``cuda`` or ``tensorrt``.
    number
        Index of the GPU, for the error message.

    Raises
    ------
    ModelError
        If ONNX Runtime was built without a provider, or a shared library is missing.
    """
    where = f"backend 'onnxruntime:{kind}{f':{number}' if number else ''}'"
    built = ort.get_available_providers()
    for provider in PROVIDERS[kind]:
        if provider not in built:
            raise ModelError(
                f"{where}: onnxruntime {ort.__version__} is built without {provider}, "
                f"it has {', '.join(built)}",
                _INSTALL,
            )
    absent = {
        name: None for provider in PROVIDERS[kind] for name in missing_provider_libraries(provider)
    }
    if absent:
        raise ModelError(
            f"{where}: {PROVIDERS[kind][0]} cannot be loaded: missing {', '.join(absent)}",
            "\n  ".join(install_commands(absent)),
        )


def missing_provider_libraries(provider: str) -> dict[str, str]:
    """Return the libraries of a provider that cannot be loaded: name to message of the loader."""
    library = Path(ort.__file__).parent / "capi" / _LIBRARIES[provider]
    if not library.is_file():
        return {library.name: "not in this onnxruntime"}
    return missing_libraries(library, _OPENED)


def install_commands(names: Mapping[str, Any]) -> list[str]:
    """Return one line per product to install: its name, the libraries in `names`, the command."""
    hints = dict.fromkeys(install_hint(name) for name in names)
    return [
        f"{hint.what} ({', '.join(n for n in names if install_hint(n) == hint)}): {hint.command}"
        for hint in hints
    ]


def cuda_options(number: int, stream: int, *, captured: bool) -> dict[str, str]:
    """Return the options of the CUDA provider.

    Parameters
    ----------
    number
        Index of the GPU.
    stream
        Handle of the CUDA stream for the provider's work.
    captured
        Whether the work is captured into CUDA graphs, one for each batch size.
    """
    return {
        "device_id": str(number),
        "user_compute_stream": str(stream),
        "use_tf32": "0",  # fp32 models are computed in fp32
        "cudnn_conv_algo_search": "HEURISTIC",  # a search takes seconds per new shape
        "enable_cuda_graph": str(int(captured)),
    }


def tensorrt_options(model: Model, number: int, stream: int, cache: Path) -> dict[str, str]:
    """Return the options of the TensorRT provider: precision and shapes of the manifest.

    Parameters
    ----------
    model
        The model.
    number
        Index of the GPU.
    stream
        Handle of the CUDA stream for the provider's work.
    cache
        Folder for the plans of this model, GPU, driver and versions. Its parent folder holds the
        kernel timings, which all models on this GPU share.
    """
    sizes = model.manifest.batch
    shapes = {
        "min": _shapes(model.manifest.inputs, sizes.min, shortest=True),
        "opt": _shapes(model.manifest.inputs, sizes.opt),
        "max": _shapes(model.manifest.inputs, sizes.max),
    }
    precision = model.manifest.precision
    return {
        "device_id": str(number),
        "user_compute_stream": str(stream),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache.parent),
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_int8_enable": str(int(precision == "int8")),
        **{f"trt_profile_{key}_shapes": text for key, text in shapes.items()},
    }


def _shapes(tensors: tuple[Tensor, ...], events: int, *, shortest: bool = False) -> str:
    """Return shapes in the syntax of the TensorRT provider: ``a:1x8x8,b:1``."""
    lengths = {tensor.name: 1 if shortest else tensor.max_items for tensor in tensors}

    def axes(tensor: Tensor) -> Iterator[int]:
        yield events
        for n in tensor.axes:
            yield lengths[tensor.mask or tensor.name] if n is None else n

    return ",".join(f"{t.name}:{'x'.join(map(str, axes(t)))}" for t in tensors)


def load_error(file: OnnxFile, label: str, error: Exception) -> ModelError:
    """Return the error of a model that ONNX Runtime refuses to load."""
    return ModelError(
        f"model {label}: ONNX Runtime {ort.__version__} cannot load it ({file.versions}): {error}",
        hint="if it is too new, export it with a lower opset, such as 17, or update onnxruntime",
    )


#: Dtypes by ONNX Runtime's names of tensors of numbers.
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64",
         "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8",
         "tensor(uint16)": "uint16", "tensor(int16)": "int16", "tensor(uint32)": "uint32",
         "tensor(uint64)": "uint64", "tensor(float16)": "float16",
         "tensor(bool)": "bool"}  # fmt: skip


#: Causes of types that are no tensors of numbers, and the remedies, by the beginning of the type.
_NO_NUMBERS = {
    "seq(map(": "a list of dictionaries, which the operator ZipMap makes: convert the classifier "
    "of scikit-learn or XGBoost with `options={'zipmap': False}`",
    "tensor(string)": "texts: convert the classifier with numbers as labels",
    "optional(": "an optional value: export the model with all of its inputs and outputs",
}


def check_signature(model: Model, session: Any, file: OnnxFile) -> None:
    """Raise ModelError unless inputs and outputs of the model file are those of the manifest.

    The file may have further outputs, which are not computed.
    """
    _compare(model, "input", session.get_inputs(), file.inputs)
    _compare(model, "output", session.get_outputs(), file.outputs)


def describe_type(kind: str) -> str:
    """Return what a type of ONNX Runtime that is no tensor of numbers is, and the remedy.

    Examples
    --------
    >>> describe_type("tensor(string)")
    'texts: convert the classifier with numbers as labels'
    """
    known = (text for start, text in _NO_NUMBERS.items() if kind.startswith(start))
    return next(known, f"{kind}: expected a tensor of numbers")


def _compare(model: Model, role: str, nodes: Sequence[Any], shapes: Mapping[str, Shape]) -> None:
    tensors = model.manifest.inputs if role == "input" else model.manifest.outputs
    actual = {node.name: node.type for node in nodes}
    promised = {tensor.name for tensor in tensors}
    if not promised <= set(actual) or (role == "input" and promised != set(actual)):
        raise ModelError(
            f"model {model.label}: manifest says {role}s {sorted(promised)}, "
            f"the file has {sorted(actual)}"
        )
    for tensor in tensors:
        _compare_tensor(
            f"model {model.label}: {role} {tensor.name!r}",
            tensor, actual[tensor.name], shapes.get(tensor.name),
        )  # fmt: skip


def _compare_tensor(where: str, tensor: Tensor, kind: str, shape: Shape) -> None:
    if kind not in TYPES:
        raise ModelError(f"{where} is {describe_type(kind)}")
    if shape == ():
        raise ModelError(
            f"{where}: expected an axis of events, the file has none",
            hint="the model adds up its events: export one that gives a value for each",
        )
    dtype, item = TYPES[kind], shape[1:] if shape else tensor.axes
    known = [a == b for a, b in zip(item, tensor.axes, strict=False)
             if a is not None and b is not None]  # fmt: skip
    if dtype != tensor.dtype or len(item) != len(tensor.axes) or not all(known):
        raise ModelError(
            f"{where}: manifest says {tensor.column.spec}, the file has {dtype}{list(item)}"
        )
