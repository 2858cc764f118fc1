"""Kernels that two or more layer types use."""
