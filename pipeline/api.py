"""Everything that authors of stages, monitors, sources, sinks and backends import.

Only this page and `sluice` itself are kept stable between releases; other modules may move.
"""

from __future__ import annotations

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig, load_graph, parse_graph
from sluice.pipeline.config.plugins import NoOptions, build
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.batch import EventBatch, Flag, Outcome, concatenate
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.errors import (
    ConfigError,
    DataError,
    DeviceLostError,
    ModelError,
    RunError,
    SluiceError,
    did_you_mean,
)
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import (
    DECISION,
    DECISION_RECORD_COLUMNS,
    EVENT_ID,
    OUTCOME,
    RESERVED,
    T_EVENT,
    T_INGEST,
    Array,
    Column,
    Schema,
)
from sluice.pipeline.inference.manifest import (
    BatchSizes,
    Manifest,
    ModelCard,
    Preprocessing,
    PublishedResult,
    Tensor,
    Training,
)
from sluice.pipeline.inference.repository import Model, find_model, read_model, write_model
from sluice.pipeline.inference.session import ChecksAvailability, Session, open_session
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint
from sluice.pipeline.recording import Recording, RecordingWriter
from sluice.pipeline.sinks.base import MAX_GROUP_DELAY_S, Keep, Sink
from sluice.pipeline.sources.base import (
    NONE,
    UNLIMITED,
    Available,
    FixesRung,
    HasSchedule,
    Losses,
    ProtectsPassThrough,
    Rejected,
    SelectsColumns,
    Source,
    now_for,
    within_limits,
)
from sluice.pipeline.stages.base import Monitor, Stage
from sluice.pipeline.stages.capabilities import (
    BindsInputs,
    Decides,
    HasLadder,
    HasShadows,
    PassesThrough,
    Reports,
    RunsModel,
    RunsOnGpu,
    SwapsModel,
    TruncatesLists,
)
from sluice.pipeline.stages.function import stage
from sluice.pipeline.transport.socket import Socket

__all__ = [
    "DECISION",
    "DECISION_RECORD_COLUMNS",
    "EVENT_ID",
    "MAX_GROUP_DELAY_S",
    "NONE",
    "OUTCOME",
    "RESERVED",
    "T_EVENT",
    "T_INGEST",
    "UNLIMITED",
    "Array",
    "Available",
    "BatchSizes",
    "BindsInputs",
    "ChecksAvailability",
    "Column",
    "CommitRecord",
    "ComponentConfig",
    "ConfigError",
    "DataError",
    "Decides",
    "DeviceLostError",
    "EventBatch",
    "FixesRung",
    "Flag",
    "GraphConfig",
    "HasLadder",
    "HasSchedule",
    "HasShadows",
    "Keep",
    "Losses",
    "Manifest",
    "Model",
    "ModelCard",
    "ModelError",
    "Monitor",
    "NoOptions",
    "Outcome",
    "OutputBuffers",
    "PassesThrough",
    "Preprocessing",
    "ProtectsPassThrough",
    "PublishedResult",
    "Ragged",
    "Recording",
    "RecordingWriter",
    "Rejected",
    "Reports",
    "ResumePoint",
    "RunError",
    "RunsModel",
    "RunsOnGpu",
    "Schema",
    "SelectsColumns",
    "Session",
    "Sink",
    "SluiceError",
    "Socket",
    "Source",
    "Stage",
    "SwapsModel",
    "Tensor",
    "Training",
    "TruncatesLists",
    "build",
    "concatenate",
    "did_you_mean",
    "find_model",
    "load_graph",
    "now_for",
    "open_session",
    "parse_duration",
    "parse_graph",
    "read_model",
    "stage",
    "strict_convert",
    "within_limits",
    "write_model",
]
