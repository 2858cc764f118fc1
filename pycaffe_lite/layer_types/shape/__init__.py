"""Layers that move values and leave them as they are."""
