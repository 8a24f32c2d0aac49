"""Who measured: the resource of this process, also where its providers were made before a fork."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from opentelemetry.sdk.resources import Resource

from otel_coach.workers.supervisor import supervisor_of_this_process

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Attributes

_INSTANCE: Final = "service.instance.id"


class ProcessResource(Resource):
    """A resource whose `service.instance.id` is its process's own (semantic conventions, service).

    A back end adds up cumulative sums by resource: two workers with one id would overwrite each
    other. An id that the user gave stays, with the worker's pid where there are several.
    """

    def __init__(self) -> None:
        found = Resource.create()
        super().__init__(found.attributes, found.schema_url)
        self._given = dict(found.attributes)
        self._by_process: tuple[int, Attributes] = (0, {})

    @property
    def attributes(self) -> Attributes:
        """With the id of the process that asks."""
        pid = os.getpid()
        of, attributes = self._by_process
        if of != pid:
            attributes = {**self._given, _INSTANCE: self._instance()}
            self._by_process = (pid, attributes)
        return attributes

    def _instance(self) -> str:
        given = self._given.get(_INSTANCE)
        if given is None:
            return str(uuid4())
        return f"{given}-{os.getpid()}" if supervisor_of_this_process() else str(given)
