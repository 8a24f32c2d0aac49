"""What takes the faults of otel-coach where a test expects none."""


def never(fault, place):
    """Fails the test: there must be no fault."""
    raise AssertionError(place) from fault
