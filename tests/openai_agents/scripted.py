"""A model that answers from a list: the real Runner, no network, on every version of the SDK.

The SDK's own agents.testing.ScriptedModel is younger than the oldest version that we support.
"""

import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

set_tracing_disabled(disabled=True)

SDK_VERSION = tuple(int(part) for part in version("openai-agents").split(".")[:2])

Answer = str | ResponseFunctionToolCall | Callable[[], Awaitable[str]]


class AnsweringModel(Model):
    """Gives its answers in order and keeps what it was asked.

    An answer that is a coroutine function runs while the model "thinks".
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.inputs: list[Any] = []

    async def get_response(self, *arguments: Any, **named: Any) -> ModelResponse:
        output = await self._next_output(*arguments, **named)
        return ModelResponse(output=[output], usage=Usage(), response_id="response")

    async def stream_response(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        output = await self._next_output(*arguments, **named)
        response = Response(
            id="response",
            created_at=0,
            model="scripted",
            object="response",
            output=[output],
            parallel_tool_calls=False,
            tool_choice="auto",
            tools=[],
        )
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)

    async def _next_output(self, *arguments: Any, **named: Any) -> Any:
        # The Runner names its arguments, or gives the instructions and the input first.
        self.inputs.append(copy.deepcopy(named["input"] if "input" in named else arguments[1]))
        answer = self.answers.pop(0)
        if isinstance(answer, ResponseFunctionToolCall):
            return answer
        return _message(answer if isinstance(answer, str) else await answer())


def _message(text: str) -> ResponseOutputMessage:
    return ResponseOutputMessage(
        id="message",
        type="message",
        role="assistant",
        status="completed",
        content=[ResponseOutputText(type="output_text", text=text, annotations=[])],
    )


def tool_call(name: str, arguments: str, *, call_id: str = "call_1") -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(type="function_call", name=name, arguments=arguments, call_id=call_id)


@function_tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def agent(*answers: Answer, **options: Any) -> tuple[Agent[Any], AnsweringModel]:
    """An agent that answers so, and the model that remembers what it was asked."""
    model = AnsweringModel(*answers)
    return Agent(name="Assistant", model=model, **options), model


async def run(how: str, starting_agent: Agent[Any], text: Any, **options: Any) -> Any:
    """Run by Runner.run or by Runner.run_streamed; the result."""
    if how == "run":
        return await Runner.run(starting_agent, text, **options)
    streamed = Runner.run_streamed(starting_agent, text, **options)
    async for _ in streamed.stream_events():
        pass
    return streamed


def words(items: list[Any]) -> list[str]:
    """The texts of a history, one for each item; a tool's call and its output by their types."""
    return [_words_of(item) for item in items]


def _words_of(item: dict[str, Any]) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        return str(item["type"])
    return "".join(part["text"] for part in content)
