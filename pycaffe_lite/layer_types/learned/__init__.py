"""Layers with weights, other than convolutions."""
