"""A graph split into segments: consecutive stages, each segment with workers of its own."""

from __future__ import annotations

from dataclasses import replace

from sluice.pipeline.core.schema import (
    DECISION,
    DECISION_RECORD_COLUMNS,
    EVENT_ID,
    OUTCOME,
    T_INGEST,
    Schema,
)

from .graph import Graph, StageJoin


def split(graph: Graph) -> list[Graph]:
    """Return the segments that the graph file defines, each as a graph of its stages.

    The outputs of a segment are the inputs of the next one: the columns that later stages,
    monitors, shadows and the sink need, and the decisions so far. Monitors and shadows run in the
    last segment.
    """
    chain = graph.config.workers.chain
    if not chain:
        return [graph]
    names = [set(segment.stages) for segment in chain]
    behind = [set().union(*names[segment:]) for segment in range(1, len(chain))]
    columns = [graph.inputs, *(_edge(graph, stages) for stages in behind), graph.outputs]
    last = len(chain) - 1
    return [
        replace(
            graph,
            stages=tuple(s for s in graph.stages if s.name in names[segment]),
            remote_stages=tuple(s for s in graph.stages if s.name not in names[segment]),
            monitors=graph.monitors if segment == last else (),
            shadows=graph.shadows if segment == last else (),
            inputs=columns[segment],
            outputs=columns[segment + 1],
            segment=segment,
        )
        for segment in range(len(chain))
    ]


def edge_schemas(graph: Graph) -> list[Schema]:
    """Return the columns from ingest, those between consecutive segments, and those to the sink."""
    return [*(segment.inputs for segment in split(graph)), graph.outputs]


def _edge(graph: Graph, behind: set[str]) -> Schema:
    """Return the columns that are sent to the stages `behind`."""
    before: list[StageJoin] = [join for join in graph.joins if join.stage not in behind]
    needed, made = {EVENT_ID.name, OUTCOME.name, DECISION.name}, set[str]()
    for join in graph.joins:
        if join.stage in behind:
            needed |= set(join.inputs.names) - made
            made |= set(join.outputs.names)
    watched = {c.name for one in (*graph.monitors, *graph.shadows) for c in one.consumes}
    kept = set(graph.outputs.names) - {column.name for column in DECISION_RECORD_COLUMNS} | {
        T_INGEST.name
    }
    needed |= (watched | kept) - made
    there = graph.inputs.merge((OUTCOME, DECISION))
    return there.merge(column for join in before for column in join.outputs).select(needed)
