"""A script that logs; it knows nothing of us. Each argument names one thing that it does first."""

import logging
import logging.config
import sys

from opentelemetry import trace

ROOT_CONFIGURED = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["console"], "level": "DEBUG"},
}

if "basicConfig" in sys.argv:
    logging.basicConfig(level=logging.INFO, format="<%(message)s>", stream=sys.stdout)
if "dictConfig" in sys.argv:
    logging.config.dictConfig(ROOT_CONFIGURED)
if "threads" in sys.argv:
    logging.getLogger("urllib3").setLevel(logging.INFO)

shop = logging.getLogger("shop")
shop.info("it is open")
shop.warning("%d orders", 7, extra={"customer": "anna"})
with trace.get_tracer("shop").start_as_current_span("an order"):
    shop.error("within a span")
try:
    {}["secret"]
except KeyError:
    shop.exception("it went wrong")
logging.getLogger("shop.till").critical("on fire")
