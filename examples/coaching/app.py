"""A running coach over HTTP: streamed chats and training plans. Run it with `uvicorn app:app`."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

from agent import CoachGraph, CoachState, build_graph, text_of
from database import open_pool
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    WebSocket,
    WebSocketDisconnect,
    status,
)
from fastapi.responses import StreamingResponse
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import MemorySaver
from model import PROVIDER_ERRORS, open_model
from schemas import AdvancedPlan, ChatRequest, Plan, PlanRequest
from security import caller, require_api_key, require_chat_token, socket_may_chat
from settings import settings
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from streaming import stream_events, stream_text
from usage import UsageLogger

limiter = Limiter(key_func=caller)
router = APIRouter(prefix="/v1/coaching")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open the database and the model, and close them when the service stops."""
    with open_pool(settings.database_url) as pool, open_model(settings) as model:
        app.state.coach = build_graph(model, pool)
        app.state.remembering_coach = build_graph(model, pool, MemorySaver())
        yield


@router.post("/chat", dependencies=[Depends(require_chat_token)])
@limiter.limit(settings.chat_limit)
async def chat(request: Request, body: ChatRequest) -> StreamingResponse:
    """Stream the coach's answer as JSON lines."""
    config = run_config(body.user_id, body.thread_id)
    config["callbacks"] = [UsageLogger()]
    events = stream_events(coach_for(request, body), question(body), config)
    return StreamingResponse(events, media_type="application/x-ndjson")


@router.post("/chat-legacy", dependencies=[Depends(require_chat_token)])
@limiter.limit(settings.chat_legacy_limit)
async def chat_legacy(request: Request, body: ChatRequest) -> StreamingResponse:
    """Stream the coach's answer as plain text."""
    config = run_config(body.user_id, body.thread_id)
    text = stream_text(coach_for(request, body), question(body), config)
    return StreamingResponse(text, media_type="text/plain")


@router.websocket("/talk")
async def talk(websocket: WebSocket) -> None:
    """Answer each message of a conversation with the same JSON lines as the chat."""
    if not socket_may_chat(websocket):
        await websocket.close(status.WS_1008_POLICY_VIOLATION)
        return
    await websocket.accept()
    coach: CoachGraph = websocket.app.state.coach
    with suppress(WebSocketDisconnect):
        while True:
            body = ChatRequest.model_validate_json(await websocket.receive_text())
            events = stream_events(coach, question(body), run_config(body.user_id))
            async with aclosing(events):
                async for line in events:
                    await websocket.send_text(line)


@router.post("/generate-training-plan", dependencies=[Depends(require_api_key)])
@limiter.limit(settings.plan_limit)
async def generate_training_plan(request: Request, body: PlanRequest) -> Plan:
    """Write a training plan."""
    coach: CoachGraph = request.app.state.coach
    with provider_failure_as_bad_gateway():
        result = await coach.ainvoke(assignment(body), run_config(body.user_id))
    return Plan(plan=text_of(result["messages"][-1]))


@router.post("/generate-training-plan-advanced", dependencies=[Depends(require_api_key)])
@limiter.limit(settings.plan_limit)
async def generate_training_plan_advanced(request: Request, body: PlanRequest) -> AdvancedPlan:
    """Write a training plan and count the steps it took."""
    coach: CoachGraph = request.app.state.coach
    plan, steps = "", 0
    with provider_failure_as_bad_gateway():
        async for update in coach.astream(
            assignment(body), run_config(body.user_id), stream_mode="updates"
        ):
            steps += 1
            if "coach" in update:
                plan = text_of(update["coach"]["messages"][-1])
    return AdvancedPlan(plan=plan, steps=steps)


def coach_for(request: Request, body: ChatRequest) -> CoachGraph:
    """Return the agent; only a conversation with a thread id can be resumed and is remembered."""
    state = request.app.state
    return state.remembering_coach if body.thread_id else state.coach


def question(body: ChatRequest) -> CoachState:
    """Return the agent's input for a chat message."""
    return CoachState(messages=[HumanMessage(body.message)], mode="streamlit")


def assignment(body: PlanRequest) -> CoachState:
    """Return the agent's input for a training plan."""
    order = f"Write a training plan of {body.weeks} weeks. The goal: {body.goal}"
    return CoachState(messages=[HumanMessage(order)], mode="plan_generator")


def run_config(user_id: str | None, thread_id: str | None = None) -> RunnableConfig:
    """Return the configuration of a run: the user, and the conversation that it continues."""
    known = {"user_id": user_id, "thread_id": thread_id}
    return RunnableConfig(configurable={key: value for key, value in known.items() if value})


@contextmanager
def provider_failure_as_bad_gateway() -> Generator[None]:
    """Answer 502 if the model's provider fails, without details of the failure."""
    try:
        yield
    except PROVIDER_ERRORS as error:
        detail = "The coach is unavailable, please try again later"
        raise HTTPException(status.HTTP_502_BAD_GATEWAY, detail) from error


app = FastAPI(title="Running coach", lifespan=lifespan)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # pyright: ignore[reportArgumentType]
app.include_router(router)


@app.get("/", include_in_schema=False)
async def about() -> dict[str, str]:
    """Say what this service is."""
    return {"service": "a running coach that streams answers of a language model", "try": "/docs"}


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer as long as the service is up."""
    return {"status": "ok"}
