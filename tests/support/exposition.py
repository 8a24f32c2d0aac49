"""An application of one route."""

from fastapi import FastAPI


def hello():
    app = FastAPI()

    @app.get("/hello")
    def greet():
        return "hello"

    return app
