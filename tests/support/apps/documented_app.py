"""The application that the documentation speaks of: a chat by an agent with a tool."""

import os

from fastapi import FastAPI
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

os.environ.setdefault("OPENAI_API_KEY", "none")

app = FastAPI()


class Question(BaseModel):
    message: str


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


def new_agent():
    return create_react_agent(ChatOpenAI(model="gpt-4o-mini", max_retries=0), [weather])


@app.post("/v1/coaching/chat")
def chat(question: Question):
    answer = new_agent().invoke({"messages": [HumanMessage(question.message)]})
    return {"answer": answer["messages"][-1].content}
