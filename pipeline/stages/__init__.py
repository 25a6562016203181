"""Protocols of stages and monitors, and the stages that any detector uses."""
