"""Layers that read data into a net, or write them."""
