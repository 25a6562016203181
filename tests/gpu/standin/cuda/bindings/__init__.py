"""Puts a stand-in for the CUDA runtime before the real bindings, whose other modules stay."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
