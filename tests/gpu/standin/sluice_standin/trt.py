"""TensorRT's names that Sluice uses; building and running are in the modules beside this one."""

from __future__ import annotations

import os

import numpy as np

from .building import (
    Builder,
    BuilderFlag,
    IBuilderConfig,
    IHostMemory,
    INetworkDefinition,
    IOptimizationProfile,
    IProgressMonitor,
    ITensor,
    ITimingCache,
    NetworkDefinitionCreationFlag,
    OnnxParser,
    ParserError,
    ProfilingVerbosity,
)
from .logging import ILogger, Logger
from .running import (
    DataType,
    EngineInspector,
    ExecutionContextAllocationStrategy,
    ICudaEngine,
    IExecutionContext,
    LayerInformationFormat,
    Runtime,
    TensorIOMode,
)

__version__ = os.environ.get("SLUICE_STANDIN_TENSORRT", "10.16.1.11")

__all__ = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "EngineInspector",
    "ExecutionContextAllocationStrategy",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "Logger",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
    "nptype",
]


def nptype(trt_type: DataType) -> type[np.generic]:
    return trt_type._numpy.type
