"""Access control: bearer tokens for the chats, an API key for the training plans."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import HTTPException, Request, Security, WebSocket, status
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from settings import settings
from slowapi.util import get_remote_address

CHAT_SCOPE = "coach:chat"

_ALGORITHM = "HS256"
_bearer = HTTPBearer(auto_error=False, description=f"A JWT with the scope `{CHAT_SCOPE}`")
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False)


def create_token(
    subject: str,
    scopes: Iterable[str] = (CHAT_SCOPE,),
    lifetime: timedelta = timedelta(hours=1),
) -> str:
    """Return a signed token for `subject`; with a negative lifetime, it has expired already."""
    claims = {
        "sub": subject,
        "scope": " ".join(scopes),
        "exp": datetime.now(UTC) + lifetime,
    }
    return jwt.encode(claims, settings.jwt_secret, algorithm=_ALGORITHM)


def require_chat_token(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> None:
    """Require a valid bearer token with the chat scope (RFC 6750)."""
    if credentials is None:
        raise _denied(status.HTTP_401_UNAUTHORIZED, "Not authenticated", "Bearer")
    try:
        claims = _claims(credentials.credentials)
    except jwt.InvalidTokenError as error:
        raise _denied(
            status.HTTP_401_UNAUTHORIZED, "Invalid token", 'Bearer error="invalid_token"'
        ) from error
    if not _may_chat(claims):
        raise _denied(
            status.HTTP_403_FORBIDDEN, "Insufficient scope", 'Bearer error="insufficient_scope"'
        )
    request.state.caller = f"user:{claims['sub']}"


def socket_may_chat(websocket: WebSocket) -> bool:
    """Tell whether a WebSocket has a token as the chats require it; it is not accepted yet."""
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    try:
        return scheme.lower() == "bearer" and _may_chat(_claims(token))
    except jwt.InvalidTokenError:
        return False


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(
        token,
        settings.jwt_secret,
        algorithms=[_ALGORITHM],
        options={"require": ["sub", "exp"]},
    )


def _may_chat(claims: dict[str, Any]) -> bool:
    return CHAT_SCOPE in str(claims.get("scope", "")).split()


def require_api_key(
    request: Request,
    key: Annotated[str | None, Security(_api_key)],
) -> None:
    """Require the API key."""
    if key is None or not secrets.compare_digest(key.encode(), settings.api_key.encode()):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Invalid API key")
    # slowapi logs the caller that it limits, so the caller's name must not contain the key.
    request.state.caller = f"key:{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def caller(request: Request) -> str:
    """Return the caller for rate limits: the token's subject, the API key or the remote address."""
    return getattr(request.state, "caller", None) or get_remote_address(request)


def _denied(status_code: int, detail: str, challenge: str) -> HTTPException:
    return HTTPException(status_code, detail, headers={"WWW-Authenticate": challenge})
