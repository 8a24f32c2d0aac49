"""Who measured: a resource that no other process of the service has."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from otel_coach.patches import replaced
from otel_coach.workers.supervisor import pid_of_supervisor

if TYPE_CHECKING:
    from collections.abc import Generator

_SECRETS: Final = frozenset({"process.command", "process.command_args", "process.command_line"})
"""Of the SDK's process detector: arguments of a command line are where keys are handed over."""


def process_resource() -> Resource:
    """The resource of this process, with a `service.instance.id` of its own.

    A back end adds up cumulative sums by resource: two workers with one id would overwrite each
    other. One that the user gave to all of them gets each worker's pid; the SDK's own is random.
    Older SDKs have none. After a fork the child gets a new one, from the SDK or from `forked`.
    """
    found = without_secrets(Resource.create())
    instance = found.attributes.get(SERVICE_INSTANCE_ID)
    if instance is None:
        return found.merge(Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}))
    if pid_of_supervisor() is None:
        return found
    return found.merge(Resource({SERVICE_INSTANCE_ID: f"{instance}-{os.getpid()}"}))


def without_secrets(resource: Resource) -> Resource:
    """`resource` without what may hold a key."""
    if _SECRETS.isdisjoint(resource.attributes):
        return resource
    kept = {key: value for key, value in resource.attributes.items() if key not in _SECRETS}
    return Resource(kept, resource.schema_url)


@contextmanager
def detected_already(resource: Resource) -> Generator[None]:
    """Let what is imported inside take `resource` for the environment's, and not detect it again.

    A detector may ask a cloud's metadata server. The SDK's logs run all of them when they are
    imported, and the gRPC exporters of all signals import those.
    """

    def make(original: staticmethod[..., Resource]) -> Any:
        def create(attributes: Any = None, schema_url: str | None = None) -> Resource:
            if attributes or schema_url:
                return original(attributes, schema_url)
            return resource

        return staticmethod(create)

    restore = replaced(Resource, "create", make)
    try:
        yield
    finally:
        restore()
