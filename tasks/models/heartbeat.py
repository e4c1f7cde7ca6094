"""The workers that are alive."""

from __future__ import annotations

from django.db import models


class WorkerHeartbeat(models.Model):
    """A worker process as it was last seen; a row that is not renewed is a worker that is gone."""

    name = models.CharField(max_length=80, unique=True)
    slots = models.PositiveSmallIntegerField()
    runs = models.PositiveSmallIntegerField(default=0)
    version = models.CharField(max_length=20)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return self.name
