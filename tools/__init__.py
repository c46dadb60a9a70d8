"""Parity: one container, the same on this machine and on Azure ML."""
