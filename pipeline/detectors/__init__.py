"""Stages and monitors of each detector.

The stage ``wafer.unpack`` is ``STAGES["unpack"]`` of ``wafer.py``; monitors are in ``MONITORS``.
"""
