"""A small invoice library with a history, a failing test and a branch to review."""
