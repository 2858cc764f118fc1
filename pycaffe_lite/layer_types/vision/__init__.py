"""Layers that move windows over images."""
