"""The service's settings, read once from the environment."""

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator may configure.

    Without `database_url` an embedded PostgreSQL is started; without `openai_api_key` and
    `openai_base_url`, a local provider. Limits are in slowapi's format.
    """

    database_url: str | None = field(repr=False)
    openai_api_key: str | None = field(repr=False)
    openai_base_url: str | None
    model: str
    jwt_secret: str = field(repr=False)
    api_key: str = field(repr=False)
    chat_limit: str
    chat_legacy_limit: str
    plan_limit: str

    @classmethod
    def from_environment(cls) -> "Settings":
        """Return the settings in the environment; an empty variable counts as unset."""
        return cls(
            database_url=os.environ.get("DATABASE_URL") or None,
            openai_api_key=os.environ.get("OPENAI_API_KEY") or None,
            openai_base_url=os.environ.get("OPENAI_BASE_URL") or None,
            model=os.environ.get("COACH_MODEL") or "gpt-3.5-turbo",
            jwt_secret=os.environ.get("COACH_JWT_SECRET")
            or "development-only-secret-never-used-in-production",
            api_key=os.environ.get("COACH_API_KEY") or "demo-key",
            chat_limit=os.environ.get("COACH_CHAT_LIMIT") or "60/minute",
            chat_legacy_limit=os.environ.get("COACH_CHAT_LEGACY_LIMIT") or "60/minute",
            plan_limit=os.environ.get("COACH_PLAN_LIMIT") or "30/minute",
        )


settings = Settings.from_environment()
