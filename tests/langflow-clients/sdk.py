"""langflow-sdk against a fleet: what its users do, with the flow examples/flows/ask-model.json."""

import asyncio
import os

from langflow_sdk import AsyncClient, Client
from langflow_sdk.exceptions import (
    LangflowAuthError,
    LangflowHTTPError,
    LangflowNotFoundError,
    LangflowValidationError,
)
from langflow_sdk.models import FlowCreate, FlowUpdate

URL, KEY = os.environ["LANGFLOW_URL"], os.environ["LANGFLOW_API_KEY"]
FILE = "examples/flows/ask-model.json"


def refused(error, call):
    try:
        call()
    except error as refusal:
        return refusal
    raise AssertionError(f"no {error.__name__}")


def flows(client):
    flow, created = client.push(FILE)
    assert created and flow.name == flow.endpoint_name == "ask-model", flow
    assert not client.push(FILE)[1]
    assert client.get_flow(flow.id).data["nodes"]
    assert [found.id for found in client.list_flows()] == [flow.id]
    changed = client.update_flow(flow.id, FlowUpdate(description="asks"))
    assert changed.description == "asks" and changed.data == flow.data
    assert client.pull(flow.id)["description"] == "asks"
    copy = client.create_flow(FlowCreate(name="Ask Model", data=flow.data))
    assert copy.endpoint_name == "ask-model-1" and copy.id != flow.id, copy
    client.delete_flow(copy.id)
    refused(LangflowNotFoundError, lambda: client.get_flow(copy.id))
    refused(LangflowValidationError, lambda: client.create_flow(FlowCreate(name="nothing in it")))
    return flow


def runs(client, flow):
    for name in ("ask-model", flow.id):
        answer = client.run(name, "hello")
        assert answer.first_text_output() == "echo: hello", answer
        assert answer.is_completed() and answer.session_id == str(flow.id), answer
    tweaks = {"Chat Input": {"sender_name": "Ada"}}
    assert client.run("ask-model", "hi", tweaks=tweaks, output_type="any").get_chat_output() == "echo: hi"
    chunks = list(client.stream("ask-model", "one two three"))
    text = "".join(chunk.text for chunk in chunks if chunk.is_token)
    assert text == "echo: one two three", chunks
    assert sum(chunk.is_token for chunk in chunks) > 1, "the tokens came as they were made"
    assert chunks[-1].final_response().first_text_output() == text


def errors(client):
    refused(LangflowNotFoundError, lambda: client.run("nobody", "x"))
    refused(LangflowValidationError, lambda: client.run("ask-model", "x", tweaks={"Chat Input": {"code": "1"}}))
    unknown = {"Language Model": {"model": [{"name": "m", "provider": "Nobody"}]}}
    failed = refused(LangflowHTTPError, lambda: client.run("ask-model", "x", tweaks=unknown))
    assert failed.status_code == 500 and "Nobody" in failed.detail, failed
    chunks = list(client.stream("ask-model", "x", tweaks=unknown))
    assert chunks[-1].is_error and "Nobody" in chunks[-1].data["error"], chunks
    with Client(URL, api_key="ff_wrong") as stranger:
        refused(LangflowAuthError, lambda: stranger.run("ask-model", "x"))


async def together():
    async with AsyncClient(URL, api_key=KEY) as client:
        answers = await asyncio.gather(*(client.run("ask-model", f"n{n}") for n in range(20)))
    assert [answer.first_text_output() for answer in answers] == [f"echo: n{n}" for n in range(20)]


with Client(URL, api_key=KEY) as client:
    runs(client, flows(client))
    errors(client)
asyncio.run(together())
print("    langflow-sdk: flows, runs, streams and errors are as it expects")
