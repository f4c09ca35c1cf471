"""/api/v2/workflows of a fleet beside Langflow's own: the same statuses, keys, types and order of events.

    workflows.py FLOW.json              compares the server at LANGFLOW_URL with workflows.json
    workflows.py FLOW.json --record     writes down what a server of Langflow's says

What is compared are shapes: of an object its keys, of a value its type. A null is any type.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

URL, KEY = os.environ["LANGFLOW_URL"], os.environ.get("LANGFLOW_API_KEY", "")
SEEN = pathlib.Path(__file__).with_name("workflows.json")
PATH = "/api/v2/workflows"
NOBODY = "7b0c9a55-6f3e-4f0a-8d6e-2b1f6a9c1e02"


def call(method, path, body=None, headers=()):
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "x-api-key": KEY, **dict(headers)}
    request = urllib.request.Request(URL + path, raw, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read().decode()


def ask(method, path, body=None):
    status, _, text = call(method, path, body)
    return status, json.loads(text)


def events(method, path, body=None, last=None):
    status, kind, text = call(method, path, body, {"Last-Event-ID": str(last)}.items() if last is not None else ())
    assert (status, kind) == (200, "text/event-stream"), (status, kind, text)
    found = []
    for frame in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if lines:
            found.append((int(lines["id"]), json.loads(lines["data"])))
    return found


def shape(value):
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return {"NoneType": "null", "bool": "bool", "int": "number", "float": "number", "str": "text"}[type(value).__name__]


def differences(seen, here, at=""):
    if "null" in (seen, here):
        return []
    if isinstance(seen, dict) and isinstance(here, dict):
        lacks = [f"{at}/{key} is missing" for key in seen if key not in here]
        more = [f"{at}/{key} is more" for key in here if key not in seen]
        both = [found for key in seen if key in here for found in differences(seen[key], here[key], f"{at}/{key}")]
        return lacks + more + both
    if isinstance(seen, list) and isinstance(here, list):
        return differences(seen[0], here[0], f"{at}/0") if seen and here else []
    return [] if seen == here else [f"{at} is {here}, not {seen}"]


def told(frames, tokens=False):
    """The order of the events and the shape of each kind; what only a streamed answer has is left out."""
    order, shapes = [], {}
    for _, frame in frames:
        name = frame.get("event") or frame["type"]
        partial = name == "add_message" and frame["data"]["properties"]["state"] == "partial"
        if (name == "token" or partial) and not tokens:
            continue
        if not (name == "add_message" and order[-1:] == ["add_message"]):
            order.append(name)
        key = name + (" " + frame["data"]["build_data"]["id"] if name == "end_vertex" else "")
        shapes.setdefault(key, shape(frame))
    return {"order": order, "shapes": shapes}


def stored(path):
    flow = json.loads(pathlib.Path(path).read_text())
    for node in flow["data"]["nodes"]:
        field = node["data"].get("node", {}).get("template", {}).get("model")
        if field:
            field["value"] = [{"name": "gpt-4o-mini", "provider": "OpenAI"}]
    status, made = ask("POST", "/api/v1/flows/", {"name": f"workflows {time.time()}", "data": flow["data"]})
    assert status == 201, made
    return made


def ended(job):
    for _ in range(200):
        status, said = ask("GET", f"{PATH}?job_id={job}")
        if said.get("status") not in ("queued", "in_progress"):
            return status, said
        time.sleep(0.1)
    raise AssertionError(f"{job} does not end: {said}")


def answers(flow):
    """Every call with its status and its answer."""
    yield "sync", ask("POST", PATH, {"flow_id": flow, "input_value": "hi"})
    tweaks = {"Chat Input": {"sender_name": "Ada"}}
    more = {"session_id": "s1", "globals": {"A": "b"}, "tweaks": tweaks, "output_ids": None}
    yield "sync, all of it", ask("POST", PATH, {"flow_id": flow, "input_value": "hi", **more})
    for name, body in {
        "unknown outputs": {"flow_id": flow, "output_ids": ["nope"]},
        "outputs of a stream": {"flow_id": flow, "mode": "stream", "output_ids": ["x"]},
        "unknown mode": {"flow_id": flow, "mode": "walk"},
        "unknown field": {"flow_id": flow, "colour": 1, "input_value": 3},
        "no uuid": {"flow_id": "nope"},
        "no flow": {"flow_id": NOBODY},
        "no body": b"",
        "no json": b"{",
        "unknown protocol": {"flow_id": flow, "stream_protocol": "x"},
        "files": {"flow_id": flow, "files": ["a"]},
        "refused tweaks": {"flow_id": flow, "tweaks": {"Chat Input": {"code": "x"}}},
        "failed": {"flow_id": flow, "tweaks": {"Language Model": {"model": [{"name": "m", "provider": "Nobody"}]}}},
    }.items():
        yield name, ask("POST", PATH, body)
    yield "status of nothing", ask("GET", PATH)
    yield "status of no uuid", ask("GET", f"{PATH}?job_id=x")
    yield "status of nobody", ask("GET", f"{PATH}?job_id={NOBODY}")
    yield "stop nobody", ask("POST", f"{PATH}/stop", {"job_id": NOBODY})
    yield "stop nothing", ask("POST", f"{PATH}/stop", {})
    yield "events of nobody", ask("GET", f"{PATH}/{NOBODY}/events")
    yield "events of no uuid", ask("GET", f"{PATH}/x/events")
    yield "resume nobody", ask("POST", f"{PATH}/{NOBODY}/resume", {"request_id": "x"})
    yield "pending", ask("GET", f"{PATH}/pending?flow_id={flow}")
    key = f"k {time.time()}"
    background = {"flow_id": flow, "input_value": "hi", "mode": "background", "idempotency_key": key}
    status, job = ask("POST", PATH, background)
    yield "background", (status, job)
    again = ask("POST", PATH, {**background, "input_value": "other"})
    assert again[1]["job_id"] == job["job_id"], again
    yield "completed", ended(job["job_id"])
    yield "stop completed", ask("POST", f"{PATH}/stop", {"job_id": job["job_id"]})


def streams(flow, model):
    body = {"flow_id": flow, "input_value": "one two three", "mode": "stream"}
    frames = events("POST", PATH, body)
    assert [number for number, _ in frames] == list(range(len(frames))), frames
    yield "stream", told(frames)
    yield "conversation", told(events("POST", PATH, {**body, "expose_graph_state": False}))
    broken = {model: {"model": [{"name": "m", "provider": "Nobody"}]}}
    yield "broken", told(events("POST", PATH, {**body, "tweaks": broken}))
    job = ask("POST", PATH, {**body, "mode": "background"})[1]["job_id"]
    ended(job)
    frames = events("GET", f"{PATH}/{job}/events")
    assert [number for number, _ in frames] == list(range(1, len(frames) + 1)), frames
    yield "events", told(frames)
    assert events("GET", f"{PATH}/{job}/events", last=frames[3][0]) == frames[4:]
    assert events("GET", f"{PATH}/{job}/events", last=10_000) == []
    assert events("GET", f"{PATH}/{job}/events", last="x") == frames


def everything(path):
    flow = stored(path)
    model = next(n["id"] for n in flow["data"]["nodes"] if n["id"].startswith("LanguageModelComponent-"))
    said = {name: {"status": status, "shape": shape(body)} for name, (status, body) in answers(flow["id"])}
    told = dict(streams(flow["id"], model))
    call("DELETE", f"/api/v1/flows/{flow['id']}")
    return {"answers": said, "streams": told}


def compare(seen, here):
    found = []
    for name, wanted in seen["answers"].items():
        said = here["answers"][name]
        if said["status"] != wanted["status"]:
            found.append(f"{name}: {said['status']}, not {wanted['status']}")
        found += [f"{name}: {difference}" for difference in differences(wanted["shape"], said["shape"])]
    for name, wanted in seen["streams"].items():
        said = here["streams"][name]
        if said["order"] != wanted["order"]:
            found.append(f"{name}: {said['order']}, not {wanted['order']}")
        for kind, wanted_shape in wanted["shapes"].items():
            of = said["shapes"].get(kind, {})
            found += [f"{name}: {kind}: {difference}" for difference in differences(wanted_shape, of)]
    return found


if __name__ == "__main__":
    here = everything(sys.argv[1])
    if "--record" in sys.argv:
        SEEN.write_text(json.dumps(here, indent=1, ensure_ascii=False) + "\n")
    else:
        found = compare(json.loads(SEEN.read_text()), here)
        print("\n".join(found))
        assert not found, f"{len(found)} differences"
        print("    /api/v2/workflows: answers, refusals and events have the shapes of Langflow's")
