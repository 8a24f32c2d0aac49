"""Servers in threads of this process: a real uvicorn, and bare TCP."""

import asyncio
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import hypercorn.asyncio
import hypercorn.config
import uvicorn

from tests.support.paths import PEM
from tests.support.programs import free_port
from tests.support.waiting import eventually


class Server(uvicorn.Server):
    """A real uvicorn on a real socket, in a thread."""

    serves = False

    def install_signal_handlers(self):
        """Signals are the main thread's."""

    async def main_loop(self):
        self._ends = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.serves = True
        ticking = asyncio.create_task(super().main_loop())
        ending = asyncio.create_task(self._ends.wait())
        await asyncio.wait({ticking, ending}, return_when=asyncio.FIRST_COMPLETED)
        ticking.cancel()
        ending.cancel()

    def end(self):
        """Ends now: uvicorn looks only ten times a second whether it shall."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._ends.set)


@contextmanager
def serving(app, **options):
    """An httpx client of `app`, served by uvicorn."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="warning", **options)
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.serves:
        assert thread.is_alive(), "uvicorn did not start"
        assert time.monotonic() < deadline, "uvicorn did not start in time"
        time.sleep(0.005)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.end()
        thread.join(60)
        assert not thread.is_alive(), "uvicorn did not stop"


@contextmanager
def serving_by_hypercorn(app):
    """An httpx client of `app`, served by hypercorn in a thread."""
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{free_port()}"]
    config.errorlog = None
    loop, stopped = asyncio.new_event_loop(), asyncio.Event()
    serve = hypercorn.asyncio.serve(app, config, shutdown_trigger=stopped.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serve,), daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://{config.bind[0]}", timeout=60) as client:
            eventually(lambda: answers(client))
            yield client
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(60)
        assert not thread.is_alive(), "hypercorn did not stop"
        loop.close()


def answers(client):
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def by_tls(answer):
    """For `tcp_server`: answers by TLS as localhost; clients may refuse the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)

    def answer_secured(connection):
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            answer(secured)

    return answer_secured


@contextmanager
def tcp_server(answer, host="127.0.0.1"):
    """Answers each connection by `answer(connection)`."""
    with socket.create_server((host, 0)) as server:
        accepted = []

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                accepted.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # else the thread would wait for ever
            for connection in accepted:
                connection.close()
