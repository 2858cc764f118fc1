"""Losses, and the accuracy."""
