"""The resource of this process, which no other process of the service shares."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from otel_coach.core.patching import replace_method
from otel_coach.workers.supervisor import pid_of_supervisor

if TYPE_CHECKING:
    from collections.abc import Generator

_SECRETS: Final = frozenset({"process.command", "process.command_args", "process.command_line"})
"""Attributes of the SDK's process detector: command line arguments may contain keys."""


def process_resource() -> Resource:
    """Returns the resource of this process, with a `service.instance.id` of its own.

    A back end tells cumulative sums apart by resource: two workers with one id would overwrite each
    other's. So a worker's pid is appended to its id, which the user may have set for all workers.
    The id that the SDK sets is random; older SDKs set none. After a fork, the child gets a new id
    from the SDK or from `forked_meters`.
    """
    found = without_command_line(Resource.create())
    instance = found.attributes.get(SERVICE_INSTANCE_ID)
    if instance is None:
        return found.merge(Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}))
    if pid_of_supervisor() is None:
        return found
    return found.merge(Resource({SERVICE_INSTANCE_ID: f"{instance}-{os.getpid()}"}))


def without_command_line(resource: Resource) -> Resource:
    """Returns `resource` without the attributes that may contain keys."""
    if _SECRETS.isdisjoint(resource.attributes):
        return resource
    kept = {key: value for key, value in resource.attributes.items() if key not in _SECRETS}
    return Resource(kept, resource.schema_url)


@contextmanager
def detected_already(resource: Resource) -> Generator[None]:
    """Inside, `Resource.create()` returns `resource` and runs no resource detectors.

    A detector may query a cloud's metadata server. Importing the SDK's logs runs all detectors, and
    the gRPC exporters of all signals import the SDK's logs.
    """

    def make(original: staticmethod[..., Resource]) -> Any:
        def create(attributes: Any = None, schema_url: str | None = None) -> Resource:
            if attributes or schema_url:
                return original(attributes, schema_url)
            return resource

        return staticmethod(create)

    restore = replace_method(Resource, "create", make)
    try:
        yield
    finally:
        restore()
