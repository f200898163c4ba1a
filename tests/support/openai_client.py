#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python client against a running berth: `openai_client.py CASE URL [KEY]`.

One line on standard output per check: "ok NAME", or "not ok NAME: why".  Run by tests/scenario/test_clients.py, perhaps by another
Python than that runs the tests; it needs nothing but the package openai."""
import os
import signal
import sys
import threading
import time

import openai

WHICH, URL, KEY = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["none"])[0]
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "temperature": 1, "seed": 5}
LONG = {**CHAT, "max_tokens": 4000, "n": 128, "extra_body": {"ignore_eos": True}}
LIMIT_S = 60 * float(os.environ.get("BERTH_TEST_SLOW", "1"))
CHECKS = {"answers": [], "errors": [], "full": [], "keys": []}


def make(**more):
    return openai.OpenAI(**{"base_url": URL + "/v1", "api_key": KEY, "max_retries": 0, **more})


CLIENT = make()


def check(case, name):
    return lambda run: CHECKS[case].append((name, run))


def equal(a, b):
    if a != b:
        raise AssertionError(f"{a!r}, not {b!r}")


def raises(kind, run, **more):
    """The exception, which must be of this class itself and have these attributes."""
    try:
        run()
    except openai.OpenAIError as e:
        equal(type(e), kind)
        for name, value in more.items():
            equal(getattr(e, name), value)
        return e
    raise AssertionError(f"no {kind.__name__}")


def tiny():
    models = CLIENT.get(URL + "/berth/v1/models", cast_to=object)["models"]
    return next(m for m in models if m["name"] == "tiny")


def wait(what, why):
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.01)


def ask(**more):
    return CLIENT.chat.completions.create(**{**CHAT, **more})


@check("answers", "list, retrieve, and a name with slashes")
def _():
    assert "tiny" in [m.id for m in CLIENT.models.list()]
    equal(CLIENT.models.retrieve("tiny").object, "model")
    equal(CLIENT.models.retrieve("some/one:q4").id, "some/one:q4")
    equal(make(base_url=URL + "/engines/llama.cpp/v1/").models.retrieve("tiny").id, "tiny")


@check("answers", "chat, its usage and its request id")
def _():
    a = ask(max_tokens=20)
    equal((a.choices[0].message.role, a.choices[0].finish_reason), ("assistant", "length"))
    equal((a.usage.completion_tokens, a.usage.total_tokens), (20, a.usage.prompt_tokens + 20))
    assert isinstance(a.usage.prompt_tokens_details.cached_tokens, int)
    assert a.system_fingerprint.startswith("fp_") and a._request_id  # pylint: disable=protected-access


@check("answers", "a stream says what the whole answer says, and its usage")
def _():
    whole, text, usage = ask(max_tokens=30), "", None
    for part in ask(max_tokens=30, stream=True, stream_options={"include_usage": True}):
        text += "".join(c.delta.content or "" for c in part.choices)
        usage = part.usage or usage
    equal(text, whole.choices[0].message.content)
    equal((usage.completion_tokens, usage.prompt_tokens), (30, whole.usage.prompt_tokens))
    with CLIENT.chat.completions.stream(**CHAT, max_tokens=30, stop=[text[10]]) as stream:
        equal(stream.get_final_completion().choices[0].message.content, text[:text.index(text[10])])


@check("answers", "logprobs")
def _():
    content = ask(max_tokens=5, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    equal([len(t.top_logprobs) for t in content], [2] * 5)
    assert all(t.logprob <= 0 and bytes(t.bytes).decode("utf-8", "replace") for t in content)
    streamed = [t for part in ask(max_tokens=5, logprobs=True, top_logprobs=2, stream=True)
                for c in part.choices if c.logprobs for t in c.logprobs.content]
    equal(streamed, content)


@check("answers", "n, seed, stop")
def _():
    a = ask(max_tokens=12, n=3)
    equal([c.index for c in a.choices], [0, 1, 2])
    equal(ask(max_tokens=12, seed=1).choices[0].message.content, ask(max_tokens=12, seed=1).choices[0].message.content)
    whole = ask(max_tokens=40).choices[0].message.content
    cut = ask(max_tokens=40, stop=[whole[20]]).choices[0]
    equal((cut.finish_reason, cut.message.content), ("stop", whole[:whole.index(whole[20])]))


@check("answers", "completions, whole and streamed, of text and of token ids")
def _():
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 8, "seed": 3}
    whole = CLIENT.completions.create(**body, logprobs=1)
    equal("".join(whole.choices[0].logprobs.tokens), whole.choices[0].text)
    equal("".join(c.text for p in CLIENT.completions.create(**body, stream=True) for c in p.choices), whole.choices[0].text)
    equal(CLIENT.completions.create(**{**body, "prompt": [1, 260, 261]}).usage.prompt_tokens, 3)


@check("answers", "leaving in mid-stream frees the place")
def _():
    stream = CLIENT.chat.completions.create(**LONG, stream=True)
    next(iter(stream))
    stream.close()
    wait(lambda: not tiny()["n_running"], "still running")
    raises(openai.APITimeoutError, lambda: make(timeout=0.2).chat.completions.create(**LONG))
    wait(lambda: not tiny()["n_running"], "still running")


@check("errors", "404 is NotFoundError")
def _():
    e = raises(openai.NotFoundError, lambda: ask(model="tinny"), status_code=404, code="model_not_found")
    assert "tiny" in e.message and e.request_id
    raises(openai.NotFoundError, lambda: CLIENT.models.retrieve("nobody"), status_code=404)
    raises(openai.NotFoundError, lambda: CLIENT.get("/nowhere", cast_to=object), status_code=404)


@check("errors", "400 is BadRequestError and names the parameter, also where a stream was asked for")
def _():
    assert "bad" in raises(openai.BadRequestError, lambda: ask(model="bad")).message  # the file is none
    for stream in (False, True):
        for name, value in (("temperature", -1), ("n", 10 ** 9), ("top_p", 7), ("modalities", ["audio"]), ("messages", [])):
            raises(openai.BadRequestError, lambda: ask(**{name: value}, stream=stream), status_code=400, param=name)
        raises(openai.BadRequestError, lambda: ask(max_tokens=10 ** 6, stream=stream), code="context_length_exceeded")


@check("errors", "500 is InternalServerError: a worker that dies")
def _():
    failed = []

    def run():
        failed.append(raises(openai.InternalServerError, lambda: CLIENT.chat.completions.create(**LONG), status_code=500,
                             code="worker_crashed"))

    t = threading.Thread(target=run)
    t.start()
    wait(lambda: tiny().get("n_running"), "never ran")
    os.kill(tiny()["pid"], signal.SIGKILL)
    t.join(LIMIT_S)
    equal(len(failed), 1)


@check("errors", "a worker that dies in mid-stream is APIError")
def _():
    stream = make(max_retries=5).chat.completions.create(**LONG, stream=True)

    def read():
        for i, _part in enumerate(stream):
            if i == 3:
                os.kill(tiny()["pid"], signal.SIGKILL)

    raises(openai.APIError, read, code="worker_crashed")


@check("errors", "with its retries, the client gets over a worker that died")
def _():
    equal(make(max_retries=5).chat.completions.create(**CHAT, max_tokens=2).usage.completion_tokens, 2)


@check("full", "429 is RateLimitError, and says when to come again")
def _():
    streams = [CLIENT.chat.completions.create(**LONG, stream=True)]  # runs
    threads = [threading.Thread(target=lambda: streams.append(CLIENT.chat.completions.create(**LONG, stream=True)), daemon=True)]
    threads[0].start()  # waits
    wait(lambda: tiny()["n_waiting"] >= 1, "nothing waits")
    e = raises(openai.RateLimitError, lambda: ask(max_tokens=1), status_code=429)
    assert float(e.response.headers["retry-after"]) > 0
    streams[0].close()
    threads[0].join(LIMIT_S)
    streams[1].close()


@check("keys", "401 is AuthenticationError, 403 PermissionDeniedError")
def _():
    for key in ("wrong", KEY[:-1], KEY + "x"):
        raises(openai.AuthenticationError, lambda: make(api_key=key).models.list(), status_code=401, code="invalid_api_key")
    raises(openai.AuthenticationError, lambda: make(api_key="wrong").chat.completions.create(**CHAT), status_code=401)
    raises(openai.PermissionDeniedError, lambda: CLIENT.post(URL + "/berth/v1/unload", body={"model": "tiny"}, cast_to=object),
           status_code=403)
    equal(ask(max_tokens=2).usage.completion_tokens, 2)


def main():
    for name, run in CHECKS[WHICH]:
        try:
            run()
            print("ok " + name, flush=True)
        except Exception as e:  # pylint: disable=broad-except
            print(f"not ok {name}: {type(e).__name__}: {e}".replace("\n", " | "), flush=True)


main()
