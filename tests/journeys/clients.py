#!/usr/bin/env python3
"""Real clients against a running server: `curl`, and the Python packages `requests`, `ollama` and `openai`, used as
the guides use them and unchanged. The journey test starts the binary, installs the packages and runs this.

    clients.py --base-url http://127.0.0.1:11434 --model smollm2 [--korean-model gemma3:270m]
               [--embed-model all-minilm] [--pull] [--key KEY] [--only requests,openai]

Checks shapes and what must be the same between ways of asking, not how clever the answers are. Prints one line a
check; the exit status is 1 when any failed. A client that is not installed is named and counts as a failure, unless
`--allow-missing` is given.
"""

import argparse
import asyncio
import codecs
import importlib.util
import json
import shutil
import subprocess
import sys
import traceback

CHECKS = []
# The answers are short: what is tested is the wire.
OPTIONS = {"seed": 7, "temperature": 0, "num_predict": 12}
QUESTION = [{"role": "user", "content": "Why is the sky blue? Answer in one sentence."}]
KOREAN = "인공지능은"


def check(client):
    """Registers a check of one client."""

    def register(function):
        CHECKS.append((client, function))
        return function

    return register


def embedding_check(client):
    """The same for one that needs a model of embeddings; without, it is passed over."""

    def register(function):
        def if_there(setup):
            if setup.embed_model:
                function(setup)

        if_there.__name__ = function.__name__
        CHECKS.append((client, if_there))
        return function

    return register


class Setup:
    """Where the server is and what it has."""

    def __init__(self, arguments):
        self.url = arguments.base_url.rstrip("/")
        self.model = arguments.model
        self.full_name = arguments.model if ":" in arguments.model.split("/")[-1] else f"{arguments.model}:latest"
        self.korean_model = arguments.korean_model or arguments.model
        self.embed_model = arguments.embed_model
        self.key = arguments.key
        self.pull = arguments.pull

    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def same(found, expected, what=""):
    assert found == expected, f"{what}: found {found!r}, expected {expected!r}"


def ends_well(last):
    """The last object of an Ollama answer."""
    same(last["done"], True, "done")
    assert last["done_reason"] in ("stop", "length"), last
    for name in ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
                 "eval_duration"):
        assert isinstance(last[name], int), f"{name} in {last}"
    assert last["eval_count"] > 0 and last["total_duration"] > 0, last


# requests ------------------------------------------------------------------------------------------------------------


def post(setup, path, body, **more):
    import requests

    return requests.post(setup.url + path, json=body, headers=setup.headers(), timeout=600, **more)


def get(setup, path):
    import requests

    return requests.get(setup.url + path, headers=setup.headers(), timeout=60)


@check("requests")
def is_running(setup):
    import requests

    same(get(setup, "/").text, "Ollama is running")
    head = requests.head(setup.url, timeout=60)
    same((head.status_code, head.text), (200, ""))
    assert get(setup, "/api/version").json()["version"][0].isdigit()
    same(get(setup, "/health").json()["status"], "ok")


@check("requests")
def pull_and_list(setup):
    if setup.pull:
        with post(setup, "/api/pull", {"model": setup.model}, stream=True) as reply:
            lines = [json.loads(line) for line in reply.iter_lines()]
        same(lines[0]["status"], "pulling manifest")
        same(lines[-1], {"status": "success"})
    models = {model["name"]: model for model in get(setup, "/api/tags").json()["models"]}
    model = models[setup.full_name]
    same(model["model"], setup.full_name)
    assert len(model["digest"]) == 64 and model["size"] > 0, model
    assert model["details"]["format"] == "gguf" and model["details"]["family"], model


@check("requests")
def generate_streams_what_it_sends_whole(setup):
    body = {"model": setup.model, "prompt": "Why is the sky blue?", "options": OPTIONS}
    with post(setup, "/api/generate", body, stream=True) as reply:
        same(reply.headers["content-type"], "application/x-ndjson")
        lines = [json.loads(line) for line in reply.iter_lines()]
    assert all(not line["done"] for line in lines[:-1]) and len(lines) > 2
    ends_well(lines[-1])
    streamed = "".join(line["response"] for line in lines)
    whole = post(setup, "/api/generate", body | {"stream": False}).json()
    same(whole["response"], streamed, "the same seed, whole and streamed")
    assert streamed.strip()
    ends_well(whole)
    same(whole["model"], setup.model)
    assert whole["created_at"].endswith("Z")
    again = body | {"stream": False, "prompt": "And the sea?", "context": whole["context"]}
    follow_up = post(setup, "/api/generate", again).json()
    assert follow_up["prompt_eval_count"] > whole["prompt_eval_count"], "it read the earlier turn"


@check("requests")
def chat_streams_what_it_sends_whole(setup):
    body = {"model": setup.model, "messages": QUESTION, "options": OPTIONS}
    with post(setup, "/api/chat", body, stream=True) as reply:
        lines = [json.loads(line) for line in reply.iter_lines()]
    assert all(line["message"]["role"] == "assistant" for line in lines)
    ends_well(lines[-1])
    streamed = "".join(line["message"]["content"] for line in lines)
    whole = post(setup, "/api/chat", body | {"stream": False}).json()
    same(whole["message"], {"role": "assistant", "content": streamed})
    longer = {"role": "system", "content": "You are a pirate."}
    told = post(setup, "/api/chat", body | {"stream": False, "messages": [longer] + QUESTION}).json()
    assert told["prompt_eval_count"] != whole["prompt_eval_count"], "a system message is read"


@check("requests")
def stop_strings_and_limits(setup):
    body = {"model": setup.model, "prompt": "Count: one two three four five six", "raw": True, "stream": False}
    short = post(setup, "/api/generate", body | {"options": OPTIONS | {"num_predict": 3}}).json()
    same((short["eval_count"], short["done_reason"]), (3, "length"))
    assert "context" not in short, "raw answers have none"
    whole = post(setup, "/api/generate", body | {"options": OPTIONS | {"num_predict": 24}}).json()["response"]
    word = whole.split()[1]
    options = OPTIONS | {"num_predict": 24, "stop": [word]}
    stopped = post(setup, "/api/generate", body | {"options": options}).json()
    same(stopped["response"], whole.split(word)[0], "the answer before the stop string")
    same(stopped["done_reason"], "stop")


@check("requests")
def korean_stays_whole_byte_by_byte(setup):
    body = {"model": setup.korean_model, "prompt": KOREAN, "raw": True, "options": OPTIONS | {"num_predict": 24}}
    decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
    text, pieces = "", 0
    with post(setup, "/api/generate", body, stream=True) as reply:
        for byte in reply.iter_content(chunk_size=1):
            text += decoder.decode(byte)
            pieces += 1
    text += decoder.decode(b"", final=True)
    lines = [json.loads(line) for line in text.splitlines()]
    streamed = "".join(line["response"] for line in lines)
    same(post(setup, "/api/generate", body | {"stream": False}).json()["response"], streamed)
    said = [line["response"] for line in lines if line["response"]]
    # The limit of tokens, and nothing else, may cut the last character in two.
    whole = said[:-1] if lines[-1]["done_reason"] == "length" else said
    assert all("\ufffd" not in piece for piece in whole), "no half characters"
    assert pieces > len(lines)


@check("requests")
def log_probabilities(setup):
    body = {"model": setup.model, "messages": QUESTION, "stream": False, "options": OPTIONS | {"num_predict": 3},
            "logprobs": True, "top_logprobs": 2}
    reply = post(setup, "/api/chat", body).json()
    same(len(reply["logprobs"]), reply["eval_count"])
    for token in reply["logprobs"]:
        assert token["logprob"] <= 0 and len(token["top_logprobs"]) == 2, token
        best = token["top_logprobs"]
        assert best[0]["logprob"] >= best[1]["logprob"], "best first"
    refused = post(setup, "/api/chat", body | {"top_logprobs": 21})
    same((refused.status_code, refused.json()), (400, {"error": "top_logprobs must be between 0 and 20"}))


@check("requests")
def load_show_running_and_unload(setup):
    loaded = post(setup, "/api/generate", {"model": setup.model, "keep_alive": "10m"}).json()
    same((loaded["done"], loaded["done_reason"]), (True, "load"))
    running = {model["name"]: model for model in get(setup, "/api/ps").json()["models"]}
    model = running[setup.full_name]
    assert model["size"] > 0 and model["context_length"] > 0 and model["expires_at"], model
    assert len(model["digest"]) == 64, model
    unloaded = post(setup, "/api/generate", {"model": setup.model, "keep_alive": 0}).json()
    same((unloaded["done"], unloaded["done_reason"]), (True, "unload"))
    names = [model["name"] for model in get(setup, "/api/ps").json()["models"]]
    assert setup.full_name not in names, names


@check("requests")
def errors(setup):
    def refuses(path, body, status, text):
        reply = post(setup, path, body)
        same((reply.status_code, reply.json()), (status, {"error": text}), path)

    refuses("/api/generate", {"model": "no-such-model", "prompt": "x"}, 404, "model 'no-such-model' not found")
    refuses("/api/chat", {"model": "no-such-model", "messages": QUESTION}, 404, "model 'no-such-model' not found")
    refuses("/api/show", {"model": "no-such-model"}, 404, "model 'no-such-model' not found")
    refuses("/api/chat", {}, 400, "model is required")
    body = {"model": setup.model, "prompt": "x", "options": {"num_ctx": "big"}}
    refuses("/api/generate", body, 400, 'option "num_ctx" must be of type integer')
    body = {"model": setup.model, "prompt": "x", "think": True}
    refuses("/api/generate", body, 400, f'"{setup.full_name}" does not support thinking')
    same(get(setup, "/api/nothing").status_code, 404)


@check("requests")
def openai_dialect_by_hand(setup):
    body = {"model": setup.model, "messages": QUESTION, "max_tokens": 8, "temperature": 0, "stream": True}
    with post(setup, "/v1/chat/completions", body, stream=True) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line.decode() for line in reply.iter_lines() if line]
    same(lines[-1], "data: [DONE]")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    same(chunks[0]["choices"][0]["delta"]["role"], "assistant")
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


# Promised shapes: small models break them as soon as nothing holds them.
SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["blue", "red", "grey"]},
        "certainty": {"type": "integer", "minimum": 0, "maximum": 100},
        "reasons": {"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 1, "maxItems": 2},
    },
    "required": ["colour", "certainty", "reasons"],
    "additionalProperties": False,
}


def keeps_schema(text):
    """What SCHEMA says, by hand."""
    found = json.loads(text)
    same(list(found), ["colour", "certainty", "reasons"], text)
    assert found["colour"] in ("blue", "red", "grey"), text
    assert type(found["certainty"]) is int and 0 <= found["certainty"] <= 100, text
    assert 1 <= len(found["reasons"]) <= 2, text
    assert all(isinstance(reason, str) and len(reason) <= 30 for reason in found["reasons"]), text


@check("requests")
def promised_shapes(setup):
    for seed in range(4):
        options = {"seed": seed, "temperature": 2.0, "num_predict": 400}
        for stream in (False, True):
            body = {"model": setup.model, "messages": QUESTION, "format": SCHEMA, "options": options, "stream": stream}
            lines = [json.loads(line) for line in post(setup, "/api/chat", body).text.splitlines()]
            same(lines[-1]["done_reason"], "stop")
            keeps_schema("".join(line["message"]["content"] for line in lines))
    body = {"model": setup.model, "prompt": "Say something as JSON.", "format": "json", "stream": False,
            "options": {"num_predict": 300, "temperature": 0}}
    reply = post(setup, "/api/generate", body).json()
    if reply["done_reason"] == "stop":
        assert isinstance(json.loads(reply["response"]), dict), reply
    refused = post(setup, "/api/chat", {"model": setup.model, "messages": QUESTION, "format": {"not": {}}})
    same(refused.status_code, 400)
    assert '"not" at #' in refused.json()["error"], refused.text


# curl ----------------------------------------------------------------------------------------------------------------


@check("curl")
def curl_as_in_the_guides(setup):
    def curl(path, body, *more):
        key = ["-H", f"Authorization: Bearer {setup.key}"] if setup.key else []
        command = ["curl", "-sS", *key, *more, setup.url + path, "-d", json.dumps(body)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout

    body = {"model": setup.model, "prompt": "Why is the sky blue?", "options": OPTIONS}
    lines = [json.loads(line) for line in curl("/api/generate", body).splitlines()]
    ends_well(lines[-1])
    whole = json.loads(curl("/api/generate", body | {"stream": False}))
    same(whole["response"], "".join(line["response"] for line in lines))
    chat = {"model": setup.model, "messages": QUESTION, "stream": False, "options": OPTIONS}
    assert json.loads(curl("/api/chat", chat))["message"]["content"].strip()
    openai = {"model": setup.model, "messages": QUESTION, "max_tokens": 8}
    reply = json.loads(curl("/v1/chat/completions", openai, "-H", "Content-Type: application/json"))
    same(reply["object"], "chat.completion")
    # No body at all, and a large one for which curl asks before it sends.
    same(json.loads(curl("/api/chat", "", "-X", "POST"))["error"], "the request body must be a JSON object")
    large = {"model": "no-such-model", "prompt": "x" * 2_000_000}
    with_file = ["curl", "-sS", setup.url + "/api/generate", "-d", "@-", *sum(
        (["-H", f"{name}: {value}"] for name, value in setup.headers().items()), [])]
    out = subprocess.run(with_file, input=json.dumps(large), check=True, capture_output=True, text=True, timeout=60)
    same(json.loads(out.stdout)["error"], "model 'no-such-model' not found")


# ollama --------------------------------------------------------------------------------------------------------------


def ollama_client(setup):
    import ollama

    return ollama.Client(host=setup.url, headers=setup.headers())


@check("ollama")
def ollama_list_show_ps(setup):
    client = ollama_client(setup)
    listed = {model.model: model for model in client.list().models}
    model = listed[setup.full_name]
    assert model.size > 0 and model.modified_at.year > 2000 and len(model.digest) == 64, model
    assert model.details.family and model.details.parameter_size and model.details.quantization_level, model
    shown = client.show(setup.model)
    assert shown.template and shown.modelfile.startswith("#") and "completion" in shown.capabilities, shown
    family = shown.modelinfo["general.architecture"]
    same(shown.details.family, family)
    assert shown.modelinfo[f"{family}.context_length"] > 0
    assert shown.modelinfo["general.parameter_count"] > 0
    client.generate(setup.model, "x", options={"num_predict": 1})
    running = {model.model: model for model in client.ps().models}
    assert running[setup.full_name].expires_at.year > 2000 and running[setup.full_name].size > 0


@check("ollama")
def ollama_pull_with_progress(setup):
    if not setup.pull:
        return
    client = ollama_client(setup)
    statuses = [progress.status for progress in client.pull(setup.model, stream=True)]
    same((statuses[0], statuses[-1]), ("pulling manifest", "success"))
    same(client.pull(setup.model).status, "success")


@check("ollama")
def ollama_generate_and_chat(setup):
    client = ollama_client(setup)
    whole = client.generate(setup.model, "Why is the sky blue?", options=OPTIONS)
    assert whole.response.strip() and whole.done and whole.eval_count > 0 and whole.context, whole
    parts = list(client.generate(setup.model, "Why is the sky blue?", options=OPTIONS, stream=True))
    same("".join(part.response for part in parts), whole.response)
    chat = client.chat(setup.model, messages=QUESTION, options=OPTIONS)
    assert chat.message.role == "assistant" and chat["message"]["content"].strip(), chat
    parts = list(client.chat(setup.model, messages=QUESTION, options=OPTIONS, stream=True))
    same("".join(part.message.content for part in parts), chat.message.content)
    assert parts[-1].done and parts[-1].total_duration > 0
    logprobs = client.chat(setup.model, QUESTION, options=OPTIONS, logprobs=True, top_logprobs=1).logprobs
    assert len(logprobs) > 0 and logprobs[0].logprob <= 0


@check("ollama")
def ollama_promised_shape(setup):
    client = ollama_client(setup)
    reply = client.chat(model=setup.model, messages=QUESTION, format=SCHEMA, options={"num_predict": 400, "seed": 5})
    keeps_schema(reply.message.content)


@check("ollama")
def ollama_async(setup):
    import ollama

    async def ask():
        client = ollama.AsyncClient(host=setup.url, headers=setup.headers())
        text = ""
        async for part in await client.chat(model=setup.model, messages=QUESTION, options=OPTIONS, stream=True):
            text += part["message"]["content"]
        return text

    assert asyncio.run(ask()).strip()


@check("ollama")
def ollama_copy_and_delete(setup):
    client = ollama_client(setup)
    same(client.copy(setup.model, "journey-copy").status, "success")
    assert "journey-copy:latest" in [model.model for model in client.list().models]
    assert client.generate("journey-copy", "x", options={"num_predict": 1}).done
    same(client.delete("journey-copy").status, "success")
    assert "journey-copy:latest" not in [model.model for model in client.list().models]
    assert setup.full_name in [model.model for model in client.list().models], "only the copy went"


@check("ollama")
def ollama_errors(setup):
    import ollama

    client = ollama_client(setup)

    def refuses(status, text, ask):
        try:
            ask()
        except ollama.ResponseError as error:
            same((error.status_code, error.error), (status, text))
        else:
            raise AssertionError(f"not refused: {text}")

    missing = "model 'no-such-model' not found"
    refuses(404, missing, lambda: client.generate("no-such-model", "x"))
    refuses(404, missing, lambda: list(client.chat("no-such-model", QUESTION, stream=True)))
    refuses(404, missing, lambda: client.delete("no-such-model"))
    refuses(404, missing, lambda: client.show("no-such-model"))
    why = "a mask cannot compare an item with those before it"
    refuses(400, f'schema: "uniqueItems" at # is not supported: {why}',
            lambda: client.generate(setup.model, "x", format={"type": "array", "uniqueItems": True}))


# openai --------------------------------------------------------------------------------------------------------------


def openai_client(setup):
    import openai

    return openai.OpenAI(base_url=setup.url + "/v1", api_key=setup.key or "ollama", max_retries=0)


@check("openai")
def openai_models(setup):
    client = openai_client(setup)
    assert setup.full_name in [model.id for model in client.models.list()]
    model = client.models.retrieve(setup.full_name)
    same((model.id, model.object), (setup.full_name, "model"))
    assert model.created > 0 and model.owned_by


@check("openai")
def openai_chat(setup):
    client = openai_client(setup)
    settings = {"model": setup.model, "messages": QUESTION, "seed": 7, "temperature": 0, "max_completion_tokens": 12}
    whole = client.chat.completions.create(**settings)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content.strip(), whole
    assert choice.finish_reason in ("stop", "length") and whole.id.startswith("chatcmpl-")
    same(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
    stream = client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    same(chunks[0].choices[0].delta.role, "assistant")
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]), choice.message.content)
    same((chunks[-1].choices, chunks[-1].usage.total_tokens), ([], whole.usage.total_tokens))
    same(chunks[-2].choices[0].finish_reason, choice.finish_reason)
    likely = client.chat.completions.create(**settings, logprobs=True, top_logprobs=2).choices[0].logprobs
    same(len(likely.content[0].top_logprobs), 2)


@check("openai")
def openai_promised_shapes(setup):
    import openai

    client = openai_client(setup)

    def ask(**more):
        choice = client.chat.completions.create(
            model=setup.model, messages=QUESTION, max_tokens=400, temperature=1.5, seed=3, **more).choices[0]
        same(choice.finish_reason, "stop")
        return choice.message.content

    promised = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    keeps_schema(ask(response_format=promised))
    keeps_schema(ask(extra_body={"guided_json": SCHEMA}))
    assert ask(extra_body={"guided_choice": ["blue", "red"]}) in ("blue", "red")
    year = ask(extra_body={"guided_regex": "(19|20)[0-9]{2}"})
    assert len(year) == 4 and year[:2] in ("19", "20") and year.isdigit(), year
    answer = ask(extra_body={"grammar": 'root ::= "sky: " colour ("," colour)?\ncolour ::= "blue" | "grey"'})
    assert answer in {f"sky: {one}{two}" for one in ("blue", "grey") for two in ("", ",blue", ",grey")}, answer
    try:
        ask(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"uniqueItems": True}}})
    except openai.BadRequestError as error:
        same(error.param, "response_format")
        assert "uniqueItems" in error.message, error.message
    else:
        raise AssertionError("a schema that cannot be kept was taken")


# Calls of tools: small models make them only when they must.
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "tells the weather", "parameters": {
    "type": "object", "properties": {"city": {"enum": ["Seoul", "Busan"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"], "additionalProperties": False}}}]
WEATHER = [{"role": "user", "content": "How is the weather in Seoul?"}]


def good_call(name, arguments):
    same(name, "weather", "the tool")
    same(sorted(arguments), ["city", "days"], arguments)
    assert arguments["city"] in ("Seoul", "Busan") and 1 <= arguments["days"] <= 9, arguments


@check("openai")
def openai_tools(setup):
    client = openai_client(setup)
    settings = {"model": setup.model, "messages": WEATHER, "tools": TOOLS, "max_tokens": 200, "parallel_tool_calls": False}
    choice = client.chat.completions.create(**settings, tool_choice="required", temperature=0).choices[0]
    (call,) = choice.message.tool_calls
    same((choice.finish_reason, choice.message.content), ("tool_calls", None))
    good_call(call.function.name, json.loads(call.function.arguments))
    named = {"type": "function", "function": {"name": "weather"}}
    for seed in range(4):
        chunks = list(client.chat.completions.create(
            **settings, tool_choice=named, temperature=2.0, seed=seed, stream=True))
        pieces = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
        assert pieces[0].id and len(pieces) > 2, pieces
        good_call(pieces[0].function.name, json.loads("".join(piece.function.arguments or "" for piece in pieces)))
        same(chunks[-1].choices[0].finish_reason, "tool_calls")
    turns = WEATHER + [choice.message.model_dump(exclude_none=True),
                       {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    after = client.chat.completions.create(**{**settings, "messages": turns}, tool_choice="none", temperature=0)
    assert after.choices[0].message.content.strip() and not after.choices[0].message.tool_calls, after


@check("ollama")
def ollama_tools_and_thinking(setup):
    import ollama

    client = ollama_client(setup)
    turns = WEATHER + [
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Seoul", "days": 1}}}]},
        {"role": "tool", "tool_name": "weather", "content": "sunny"}]
    for messages in (WEATHER, turns):
        answer = client.chat(model=setup.model, messages=messages, tools=TOOLS, options=OPTIONS)
        for call in answer.message.tool_calls or []:
            good_call(call.function.name, dict(call.function.arguments))
        assert answer.message.content or answer.message.tool_calls, answer
    try:
        client.chat(model=setup.model, messages=WEATHER, think=True)
    except ollama.ResponseError as error:
        same(error.status_code, 400)
        assert "does not support thinking" in error.error, error
    else:
        raise AssertionError("a model that cannot think was asked to, and answered")


@check("openai")
def openai_completions(setup):
    client = openai_client(setup)
    settings = {"model": setup.model, "prompt": "The sky is", "seed": 7, "temperature": 0, "max_tokens": 8}
    whole = client.completions.create(**settings)
    assert whole.choices[0].text and whole.object == "text_completion", whole
    chunks = list(client.completions.create(**settings, stream=True))
    same("".join(chunk.choices[0].text for chunk in chunks), whole.choices[0].text)
    echoed = client.completions.create(**settings, echo=True).choices[0].text
    same(echoed, "The sky is" + whole.choices[0].text)
    likely = client.completions.create(**settings, logprobs=1).choices[0].logprobs
    same({len(likely.tokens), len(likely.token_logprobs), len(likely.top_logprobs), len(likely.text_offset)},
         {whole.usage.completion_tokens})


@check("openai")
def openai_async(setup):
    import openai

    async def ask():
        client = openai.AsyncOpenAI(base_url=setup.url + "/v1", api_key=setup.key or "ollama")
        stream = await client.chat.completions.create(
            model=setup.model, messages=QUESTION, max_tokens=8, temperature=0, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()).strip()


@check("openai")
def openai_errors(setup):
    import openai

    client = openai_client(setup)

    def refuses(kind, code, ask):
        try:
            ask()
        except kind as error:
            same(error.code, code)
            assert error.request_id, "x-request-id"
        else:
            raise AssertionError(f"not refused: {code}")

    chat = client.chat.completions.create
    refuses(openai.NotFoundError, "model_not_found", lambda: chat(model="no-such-model", messages=QUESTION))
    refuses(openai.NotFoundError, "model_not_found",
            lambda: list(chat(model="no-such-model", messages=QUESTION, stream=True)))
    refuses(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("no-such-model"))
    refuses(openai.BadRequestError, "unsupported_value",
            lambda: chat(model=setup.model, messages=QUESTION, service_tier="scale"))
    chat(model=setup.model, messages=QUESTION, service_tier="flex", max_tokens=2)
    refuses(openai.BadRequestError, "empty_array", lambda: chat(model=setup.model, messages=[]))
    refuses(openai.BadRequestError, "decimal_above_max_value",
            lambda: chat(model=setup.model, messages=QUESTION, temperature=3))
    long = [{"role": "user", "content": "word " * 6000}]
    refuses(openai.BadRequestError, "context_length_exceeded",
            lambda: chat(model=setup.model, messages=long, extra_body={"num_ctx": 512}))
    if setup.key:
        wrong = openai.OpenAI(base_url=setup.url + "/v1", api_key="wrong", max_retries=0)
        refuses(openai.AuthenticationError, "invalid_api_key", lambda: wrong.models.list())


# Vectors and rankings, where there is a model for them ------------------------------------------------------------------


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


NEAR = ["A man is eating food.", "A man eats something.", "The stock market fell sharply."]


@embedding_check("ollama")
def ollama_embed(setup):
    client = ollama_client(setup)
    many = client.embed(model=setup.embed_model, input=NEAR)
    same(len(many.embeddings), 3)
    assert many.prompt_eval_count > 12 and many.total_duration > 0, many
    one = client.embed(model=setup.embed_model, input=NEAR[0])
    assert cosine(one.embeddings[0], many.embeddings[0]) > 0.99999, "alone and among others"
    assert abs(sum(x * x for x in one.embeddings[0]) - 1) < 1e-3, "length 1"
    near, far = (cosine(many.embeddings[0], many.embeddings[i]) for i in (1, 2))
    assert near > far + 0.2, (near, far)
    old = client.embeddings(model=setup.embed_model, prompt=NEAR[0])
    assert cosine(old.embedding, one.embeddings[0]) > 0.99999
    short = client.embed(model=setup.embed_model, input=NEAR[0], dimensions=64)
    same(len(short.embeddings[0]), 64)
    long = "word " * 5000
    client.embed(model=setup.embed_model, input=long)
    import ollama

    for ask in (lambda: client.embed(model=setup.embed_model, input=long, truncate=False),
                lambda: client.generate(model=setup.embed_model, prompt="x")):
        try:
            ask()
        except ollama.ResponseError as error:
            same(error.status_code, 400)
        else:
            raise AssertionError("not refused")


@embedding_check("openai")
def openai_embeddings(setup):
    import openai

    client = openai_client(setup)
    # The client asks for base64 by itself.
    packed = client.embeddings.create(model=setup.embed_model, input=NEAR)
    plain = client.embeddings.create(model=setup.embed_model, input=NEAR, encoding_format="float")
    same([item.index for item in packed.data], [0, 1, 2])
    for a, b in zip(packed.data, plain.data, strict=True):
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding, strict=True)) < 1e-6
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0
    short = client.embeddings.create(model=setup.embed_model, input=NEAR[0], dimensions=32)
    same(len(short.data[0].embedding), 32)
    for kind, ask in [
        (openai.BadRequestError, {"input": "word " * 5000}),
        (openai.BadRequestError, {"input": []}),
        (openai.BadRequestError, {"input": "a", "dimensions": 1_000_000}),
        (openai.NotFoundError, {"input": "a", "model": "no-such-model"}),
    ]:
        try:
            client.embeddings.create(**{"model": setup.embed_model, **ask})
        except kind:
            pass
        else:
            raise AssertionError(f"not refused: {ask}")


@embedding_check("requests")
def ranks(setup):
    body = {"model": setup.embed_model, "query": NEAR[0], "documents": NEAR[1:], "top_n": 1}
    reply = post(setup, "/v1/rerank", body)
    same(reply.status_code, 200, reply.text)
    same(reply.json()["results"][0]["index"], 0)
    same(reply.json()["results"][0]["document"]["text"], NEAR[1])
    cohere = post(setup, "/v2/rerank", body).json()
    same(list(cohere["results"][0]), ["index", "relevance_score"])
    tei = post(setup, "/rerank", {"model": setup.embed_model, "query": NEAR[0], "texts": NEAR[1:]}).json()
    same([rank["index"] for rank in tei], [0, 1])
    inputs = {"source_sentence": NEAR[0], "sentences": NEAR[1:]}
    near, far = post(setup, "/similarity", {"model": setup.embed_model, "inputs": inputs}).json()
    assert near > far, (near, far)
    refused = post(setup, "/embed", {"model": setup.model, "inputs": "a", "dimensions": 1_000_000})
    assert refused.status_code == 422 and refused.json()["error_type"] == "Validation", refused.text


# main ----------------------------------------------------------------------------------------------------------------


def is_here(client):
    return shutil.which("curl") if client == "curl" else importlib.util.find_spec(client)


def main():
    parser = argparse.ArgumentParser(description="Real clients against a running server.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    # A model that knows no Korean makes half characters by itself.
    parser.add_argument("--korean-model", help="model that is asked in Korean (default: the same)")
    parser.add_argument("--embed-model", help="model of embeddings, for the checks of vectors and rankings")
    parser.add_argument("--pull", action="store_true", help="pull the model over the API first")
    parser.add_argument("--key", help="Bearer key of the server")
    parser.add_argument("--only", help="clients, separated by commas")
    parser.add_argument("--allow-missing", action="store_true", help="pass over clients that are not installed")
    arguments = parser.parse_args()
    setup = Setup(arguments)
    only = arguments.only.split(",") if arguments.only else None
    failed, ran = [], 0
    for client, function in CHECKS:
        name = f"{client}: {function.__name__}"
        if only and client not in only:
            continue
        if not is_here(client):
            print(f"{name}: {client} is not installed, not run")
            if not arguments.allow_missing:
                failed.append(name)
            continue
        ran += 1
        try:
            function(setup)
            print(f"{name}: ok", flush=True)
        except Exception:
            failed.append(name)
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
    print(f"{ran} checks ran, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
