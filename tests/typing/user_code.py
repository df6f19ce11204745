"""What users write, as pyright reads it in strict mode: each line that is wrong says so, and no other."""

import openai
from agents import Agent, RunConfig, Runner

import sessions
from sessions.openai_agents import AgentsSession, keep_whole_turns

agent = Agent(name="Desk")
client = openai.OpenAI()

with sessions.Session.from_url("chat_1", "sqlite:chat.db", default_limit=50, whole_turns=True) as session:
    session.add_items([{"role": "user", "content": "Hello"}])
    client.responses.create(model="m", input=session.get_items())
    result = Runner.run_sync(agent, session.get_items(20, whole_turns=True))
    session.add_items(result.to_input_list())
    last = session.pop_item()
    said = last["content"] if last else None
    ids: list[int] = [record.id for record in session.records()]

Runner.run_sync(agent, "Hello", session=AgentsSession.from_url("chat_1", "sqlite:chat.db", whole_turns=True))
Runner.run_sync(agent, "Hello", run_config=RunConfig(session_input_callback=keep_whole_turns(50)))

with sessions.connect("postgresql://app@db.example.com/agents", pool_size=5, ssl={"ca": "ca.pem"}) as backend:
    Runner.run_sync(agent, "Hello", session=AgentsSession(backend.session("chat_1"), on_conflict="raise"))
    titles: dict[str, str] = backend.first_messages(info.session_id for info in backend.list_sessions())

sessions.connect("sqlite:chat.db", pol_size=5)  # pyright: ignore[reportCallIssue]
sessions.Session.from_url("chat_1", "sqlite:chat.db", defaultlimit=5)  # pyright: ignore[reportCallIssue]
AgentsSession.from_url("chat_1", "sqlite:chat.db", on_conflicts="raise")  # pyright: ignore[reportCallIssue]
sessions.Session("chat_1", "sqlite:chat.db")  # pyright: ignore[reportArgumentType]
