"""Who measured: a resource that no other process of the service has."""

from __future__ import annotations

import os
from typing import Final

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from otel_coach.workers.supervisor import pid_of_supervisor

_SECRETS: Final = frozenset({"process.command", "process.command_args", "process.command_line"})
"""Of the SDK's process detector: arguments of a command line are where keys are handed over."""


def process_resource() -> Resource:
    """The resource of this process, with a `service.instance.id` of its own.

    A back end adds up cumulative sums by resource: two workers with one id would overwrite each
    other. One that the user gave to all of them gets each worker's pid; the SDK's own is random.
    After a fork the SDK itself gives the child a new one.
    """
    found = Resource.create()
    if not _SECRETS.isdisjoint(found.attributes):
        kept = {key: value for key, value in found.attributes.items() if key not in _SECRETS}
        found = Resource(kept, found.schema_url)
    if pid_of_supervisor() is None:
        return found
    instance = f"{found.attributes[SERVICE_INSTANCE_ID]}-{os.getpid()}"
    return found.merge(Resource({SERVICE_INSTANCE_ID: instance}))
