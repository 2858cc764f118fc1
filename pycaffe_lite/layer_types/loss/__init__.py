"""Losses, and Accuracy."""
