"""A request's route, while it is looked up."""

import threading

from otel_coach.instrumentors.asgi.answering import Answering
from otel_coach.instrumentors.asgi.routes import NO_ROUTE


def request(find):
    made = Answering()
    made._original, made._routed, made.app = {}, {}, None
    made._routes = type("Routes", (), {"find": staticmethod(find)})
    return made


def test_another_thread_that_asks_meanwhile_gets_the_route_too():
    begun, go_on, found = threading.Event(), threading.Event(), []

    def find(*_asked):
        if not begun.is_set():
            begun.set()
            go_on.wait(60)
        return "the route"

    asked = request(find)
    first = threading.Thread(target=lambda: found.append(asked.route))
    first.start()
    begun.wait(60)
    found.append(asked.route)
    go_on.set()
    first.join(60)
    assert found == ["the route"] * 2


def test_a_path_convertor_that_asks_gets_no_route():
    def find(*_asked):
        inside.append(asked.route)
        return "the route"

    inside = []
    asked = request(find)
    assert asked.route == "the route"
    assert inside == [NO_ROUTE]
