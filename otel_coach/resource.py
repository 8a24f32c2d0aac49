"""Who measured: a resource that no other process of the service has."""

from __future__ import annotations

import os
from typing import Final
from uuid import uuid4

from opentelemetry.sdk.resources import Resource

from otel_coach.workers.supervisor import supervisor_of_this_process

_INSTANCE: Final = "service.instance.id"


def process_resource() -> Resource:
    """The resource of this process, with a `service.instance.id` of its own.

    A back end adds up cumulative sums by resource: two workers with one id would overwrite each
    other. An id that the user gave stays, with the worker's pid where there are several. After a
    fork the SDK itself gives the child a new one.
    """
    found = Resource.create()
    given = found.attributes.get(_INSTANCE)
    if given is None:
        instance = str(uuid4())
    elif supervisor_of_this_process() is None:
        return found
    else:
        instance = f"{given}-{os.getpid()}"
    return found.merge(Resource({_INSTANCE: instance}))
