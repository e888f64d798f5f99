"""Sparse twins of trained models."""
