"""Layers that move values without changing them."""
