"""A provider for tests that speaks OpenAI's protocol on this machine, and answers by a script."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

from otel_coach.testing.openai_protocol import Chat, Responses
from otel_coach.testing.script import Call, Failure, pieces, word_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_coach.testing.openai_protocol import OpenAIApi
    from otel_coach.testing.script import ToolCall

_HOST: Final = "127.0.0.1"
_APIS: Final[Mapping[str, OpenAIApi]] = {
    "/v1/chat/completions": Chat(),
    "/v1/responses": Responses(),
}
_EMBEDDINGS: Final = "/v1/embeddings"


class ScriptedProvider:
    """Answers chats and responses, whole or streamed, and embeddings, inside a `with` block.

        with ScriptedProvider("Run easy.", Failure(429), ToolCall("weather")) as provider:
            model = ChatOpenAI(base_url=provider.base_url, api_key="any", max_retries=0)

    Each chat and each response (`ChatOpenAI(use_responses_api=True)`, `client.responses.create`)
    gets the next answer of the script, and the last one again when the script is over. A word is a
    token. Embeddings are answered without the script.

    Args:
        script: texts, tool calls and failures; by default the text "ok".
        pace: seconds between two pieces of a stream.
    """

    def __init__(self, *script: str | ToolCall | Failure, pace: float = 0.0) -> None:
        self._script = [*script] or ["ok"]
        self.pace = pace
        self.calls: list[Call] = []
        """The requests for chats, responses and embeddings so far, in the order of their answers.

        An answer may be a failure of the script. Requests to other paths, and those that cannot be
        read, are not among them.
        """
        self._next = 0
        self._lock = threading.Lock()
        self._server = _Server((_HOST, 0), partial(_Handler, self, self._next_answer))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="scripted-provider", daemon=True
        )

    @property
    def script(self) -> list[str | ToolCall | Failure]:
        """What is answered; it may be extended, or replaced. A new one begins at its start."""
        return self._script

    @script.setter
    def script(self, script: list[str | ToolCall | Failure]) -> None:
        with self._lock:
            if script is not self._script:  # `script += [...]` extends it
                self._script, self._next = script or ["ok"], 0

    @property
    def base_url(self) -> str:
        """The address for `ChatOpenAI(base_url=...)` and `OPENAI_BASE_URL`."""
        return f"http://{_HOST}:{self._server.server_port}/v1"

    @property
    def gateways(self) -> dict[str, str]:
        """For `Settings(gateways=...)`: the models have OpenAI's prices."""
        return {f"{_HOST}:{self._server.server_port}": "openai"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next_answer(self) -> str | ToolCall | Failure:
        with self._lock:
            script = self._script or ["ok"]
            place = min(self._next, len(script) - 1)
            self._next = place + 1
            return script[place]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # by default 5: of many that connect at once, some would be reset
    block_on_close = False  # a client may keep its connection open

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of the provider's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(
        self,
        provider: ScriptedProvider,
        next_answer: Callable[[], str | ToolCall | Failure],
        *args: Any,
    ) -> None:
        self._provider = provider
        self._next_answer = next_answer
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        try:
            self._answered(path, body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            self._fail(Failure(400, f"the scripted provider cannot read the request ({why})"))

    def _answered(self, path: str, body: bytes) -> None:
        if (api := _APIS.get(path)) is not None:
            self._answer(api, json.loads(body))
        elif path == _EMBEDDINGS:
            self._embed(json.loads(body))
        else:
            known = f"{', '.join(_APIS)} and {_EMBEDDINGS} only"
            self._fail(Failure(404, f"the scripted provider knows {known}"))

    def _answer(self, api: OpenAIApi, asked: dict[str, Any]) -> None:
        messages, model = api.messages(asked), str(asked["model"])
        answer = self._next_answer()
        call = Call(
            model,
            bool(asked.get("stream")),
            messages,
            answer.status if isinstance(answer, Failure) else 200,
            0 if isinstance(answer, Failure) else sum(map(word_count, messages)),
            len(pieces(answer)),
        )
        self._provider.calls.append(call)
        if isinstance(answer, Failure):
            self._fail(answer)
        elif call.is_stream:
            self._stream(api, call, answer, asked)
        else:
            self._send_json(200, api.whole(call, answer))

    def _embed(self, asked: dict[str, Any]) -> None:
        given: list[Any] = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        if given and isinstance(given[0], int):
            given = [given]  # the tokens of one text
        tokens = sum(len(one.split()) if isinstance(one, str) else len(one) for one in given)
        messages = ({"role": "user", "content": str(given)},)
        self._provider.calls.append(Call(str(asked["model"]), False, messages, 200, tokens, 0))  # noqa: FBT003 - is_stream
        data = [
            {"object": "embedding", "index": place, "embedding": [float(len(one)), 1.0]}
            for place, one in enumerate(given)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        whole = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
        self._send_json(200, whole)

    def _stream(
        self, api: OpenAIApi, call: Call, answer: str | ToolCall, asked: dict[str, Any]
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event, has_piece in api.events(call, answer, asked):
            if has_piece:
                time.sleep(self._provider.pace)
            kind = f"event: {event['type']}\n" if "type" in event else ""
            self._chunk(f"{kind}data: {json.dumps(event)}\n\n".encode())
        if api.ends_with:
            self._chunk(api.ends_with)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _fail(self, failure: Failure) -> None:
        kind = next((one.name.lower() for one in HTTPStatus if one == failure.status), "error")
        error = {"message": failure.message, "type": kind, "code": None, "param": None}
        self._send_json(failure.status, {"error": error})

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing: `calls` has what was asked."""
