"""Layers that compute each element by itself."""
