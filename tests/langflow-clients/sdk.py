"""langflow-sdk against a fleet: what its users do, with the flow examples/flows/ask-model.json."""

import asyncio
import json
import os
import tempfile

from langflow_sdk import AsyncClient, Client
from langflow_sdk.exceptions import (
    LangflowAuthError,
    LangflowHTTPError,
    LangflowNotFoundError,
    LangflowValidationError,
)
from langflow_sdk.models import FlowCreate, FlowUpdate, ProjectCreate, ProjectUpdate, RunRequest

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


def projects(client, flow):
    """A tenant has one project, with all its flows; there are no others to make."""
    (project,) = client.list_projects()
    assert [found.id for found in client.get_project(project.id).flows] == [flow.id]
    archive = client.download_project(project.id)
    assert json.loads(archive["ask-model.json"])["id"] == str(flow.id), archive
    with tempfile.TemporaryDirectory() as folder:
        written = client.pull_project(project.id, output_dir=folder)
        assert list(written) == ["ask-model"], written
        assert [created for _, created in client.push_project(folder)] == [False]
    assert [found.id for found in client.list_flows(folder_id=project.id)] == [flow.id]
    for call in (
        lambda: client.create_project(ProjectCreate(name="other")),
        lambda: client.update_project(project.id, ProjectUpdate(name="other")),
        lambda: client.delete_project(project.id),
        # Langflow's own server refuses it, too: it wants a form.
        lambda: client.upload_project(b"PK"),
    ):
        refused(LangflowHTTPError, call)


def runs(client, flow):
    for name in ("ask-model", flow.id):
        answer = client.run(name, "hello")
        assert answer.first_text_output() == "echo: hello", answer
        assert answer.is_completed() and answer.session_id == str(flow.id), answer
    tweaks = {"Chat Input": {"sender_name": "Ada"}}
    assert client.run("ask-model", "hi", tweaks=tweaks, output_type="any").get_chat_output() == "echo: hi"
    request = RunRequest(input_value="asked", output_type="any")
    assert client.run_flow("ask-model", request).get_text_outputs() == ["echo: asked"]
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
        job = await client.run_background("ask-model", "later")
        answer = await job.wait_for_completion(timeout=30)
        assert job.is_completed() and answer.get_chat_output() == "echo: later", answer
        assert [chunk.event async for chunk in client.stream("ask-model", "x")][-1] == "end"
        (project,) = await client.list_projects()
        assert (await client.get_flow((await client.get_project(project.id)).flows[0].id)).endpoint_name == "ask-model"
    assert [answer.first_text_output() for answer in answers] == [f"echo: n{n}" for n in range(20)]


with Client(URL, api_key=KEY) as client:
    flow = flows(client)
    projects(client, flow)
    runs(client, flow)
    errors(client)
asyncio.run(together())
print("    langflow-sdk: flows, projects, runs, streams and errors are as it expects")
