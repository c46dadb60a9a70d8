"""Parity: one container, the same on this machine and on Azure ML."""

__version__ = "0.1.0"
