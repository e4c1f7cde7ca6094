"""Attacks on the platform, each a command that prints one table and fails on any loss."""
