"""The coach's tools: what it can look up while it answers."""

import database
from langchain_core.tools import BaseTool, tool
from psycopg_pool import ConnectionPool

_SKIES = ("sunny", "cloudy", "windy", "rainy")


@tool
async def weather(city: str) -> str:
    """Tell today's weather in a city."""
    # A stand-in for a weather service: the same city always has the same weather.
    seed = sum(city.lower().encode())
    return f"{city}: {_SKIES[seed % len(_SKIES)]}, {5 + seed % 20} °C"


def build_tools(pool: ConnectionPool) -> list[BaseTool]:
    """Return the coach's tools; those that read the database do so through `pool`."""

    @tool
    def recent_activities(athlete: str) -> str:
        """List an athlete's most recent training sessions."""
        activities = database.recent_activities(pool, athlete)
        if not activities:
            return f"No activities are recorded for {athlete}."
        return "\n".join(
            f"{a.day}: {a.kind}, {a.kilometres:g} km in {a.minutes} min" for a in activities
        )

    return [weather, recent_activities]
