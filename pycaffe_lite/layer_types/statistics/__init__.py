"""Layers that compute with means, sums or maxima over axes."""
