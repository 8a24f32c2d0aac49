"""The bodies of requests and responses."""

from pydantic import BaseModel, Field


class ChatRequest(BaseModel):
    """A message to the coach. Only a conversation with a `thread_id` is remembered."""

    message: str = Field(min_length=1)
    thread_id: str | None = None
    user_id: str | None = None


class PlanRequest(BaseModel):
    """The goal of a training plan, and its length in weeks."""

    goal: str = Field(min_length=1)
    weeks: int = Field(ge=1, le=52)
    user_id: str | None = None


class Plan(BaseModel):
    """A training plan."""

    plan: str


class AdvancedPlan(Plan):
    """A training plan, and the number of steps that the agent took to write it."""

    steps: int
