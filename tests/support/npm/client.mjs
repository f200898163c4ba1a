// SPDX-License-Identifier: Apache-2.0
// OpenAI's own client against a running berth: `node client.mjs CASE URL [KEY]`.  One line on standard output per
// check: "ok NAME" or "not ok NAME: why".  Run by tests/scenario/test_clients.py.
import assert from "node:assert/strict";
import process from "node:process";
import OpenAI from "openai";

const [which, url, key] = process.argv.slice(2);
const make = (more = {}) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key ?? "none", maxRetries: 0, ...more });
const client = make();
const user = (content) => [{ role: "user", content }];
const chat = { model: "tiny", messages: user("hello"), temperature: 1, seed: 5 };

async function check(name, run) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (e) {
    console.log(`not ok ${name}: ${String(e?.stack ?? e).split("\n").slice(0, 4).join(" | ")}`);
  }
}

async function raises(kind, run, more = {}) {
  try {
    await run();
  } catch (e) {
    assert.ok(e instanceof kind, `${e?.constructor?.name}, not ${kind.name}: ${e}`);
    for (const [k, v] of Object.entries(more)) assert.deepEqual(e[k], v, `${k} of ${e}`);
    return e;
  }
  assert.fail(`no ${kind.name}`);
}

async function models() {
  return (await client.get(`${url}/berth/v1/models`)).models;
}

const cases = {
  async answers() {
    await check("list", async () => {
      const ids = [];
      for await (const m of await client.models.list()) ids.push(m.id);
      assert.ok(ids.includes("tiny"), ids.join());
    });
    await check("retrieve", async () => {
      const m = await client.models.retrieve("tiny");
      assert.equal(m.id, "tiny");
      assert.equal(m.object, "model");
      assert.equal(typeof m.created, "number");
    });
    await check("retrieve a name with slashes", async () => {
      assert.equal((await client.models.retrieve("some/one:q4")).id, "some/one:q4");
    });
    await check("base URL with a slash", async () => {
      assert.equal((await make({ baseURL: `${url}/v1/` }).models.retrieve("tiny")).id, "tiny");
      assert.equal((await make({ baseURL: `${url}/engines/llama.cpp/v1` }).models.retrieve("tiny")).id, "tiny");
    });
    await check("chat, its usage and its request id", async () => {
      const { data, response, request_id } = await client.chat.completions
        .create({ ...chat, max_tokens: 20 }).withResponse();
      assert.equal(data.choices[0].message.role, "assistant");
      assert.equal(data.choices[0].finish_reason, "length");
      assert.ok(data.choices[0].message.content.length > 0);
      assert.equal(data.usage.completion_tokens, 20);
      assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + 20);
      assert.equal(typeof data.usage.prompt_tokens_details.cached_tokens, "number");
      assert.match(data.system_fingerprint, /^fp_/);
      assert.equal(request_id, response.headers.get("x-request-id"));
      assert.equal(data._request_id, request_id);
    });
    await check("max_completion_tokens, content as parts, a system and a developer message", async () => {
      const a = await client.chat.completions.create({ ...chat, max_completion_tokens: 3, messages: [
        { role: "system", content: "a" }, { role: "developer", content: "b" },
        { role: "user", content: [{ type: "text", text: "hello" }] }] });
      assert.equal(a.usage.completion_tokens, 3);
    });
    await check("a stream says what the whole answer says, and its usage", async () => {
      const whole = await client.chat.completions.create({ ...chat, max_tokens: 30 });
      const stream = await client.chat.completions.create(
        { ...chat, max_tokens: 30, stream: true, stream_options: { include_usage: true } });
      let text = "", usage = null, finish = null;
      for await (const part of stream) {
        for (const c of part.choices) {
          text += c.delta.content ?? "";
          finish = c.finish_reason ?? finish;
        }
        usage = part.usage ?? usage;
      }
      assert.equal(text, whole.choices[0].message.content);
      assert.equal(finish, "length");
      assert.equal(usage.completion_tokens, 30);
    });
    await check("the stream helper collects the same", async () => {
      const whole = await client.chat.completions.create({ ...chat, max_tokens: 10 });
      const final = await client.chat.completions.stream({ ...chat, max_tokens: 10 }).finalChatCompletion();
      assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    });
    await check("logprobs", async () => {
      const a = await client.chat.completions.create({ ...chat, max_tokens: 5, logprobs: true, top_logprobs: 2 });
      const content = a.choices[0].logprobs.content;
      assert.equal(content.length, 5);
      assert.equal(content.map((t) => t.token).join(""), a.choices[0].message.content);
      for (const t of content) {
        assert.ok(t.logprob <= 0 && t.top_logprobs.length === 2 && Array.isArray(t.bytes));
      }
      const stream = await client.chat.completions.create(
        { ...chat, max_tokens: 5, logprobs: true, top_logprobs: 2, stream: true });
      const streamed = [];
      for await (const part of stream) streamed.push(...(part.choices[0]?.logprobs?.content ?? []));
      assert.deepEqual(streamed, content);
    });
    await check("n", async () => {
      const a = await client.chat.completions.create({ ...chat, max_tokens: 12, n: 3 });
      assert.deepEqual(a.choices.map((c) => c.index), [0, 1, 2]);
      assert.ok(new Set(a.choices.map((c) => c.message.content)).size > 1);
      assert.equal(a.usage.completion_tokens, 36);
    });
    await check("seed", async () => {
      const ask = (seed) => client.chat.completions.create({ ...chat, max_tokens: 12, seed });
      const [a, b, c] = [await ask(1), await ask(1), await ask(2)];
      assert.equal(a.choices[0].message.content, b.choices[0].message.content);
      assert.notEqual(a.choices[0].message.content, c.choices[0].message.content);
    });
    await check("stop", async () => {
      const whole = (await client.chat.completions.create({ ...chat, max_tokens: 40 })).choices[0].message.content;
      const mark = whole[20];
      const a = await client.chat.completions.create({ ...chat, max_tokens: 40, stop: [mark] });
      assert.equal(a.choices[0].finish_reason, "stop");
      assert.equal(a.choices[0].message.content, whole.slice(0, whole.indexOf(mark)));
    });
    await check("completions, whole and streamed, of text and of token ids", async () => {
      const body = { model: "tiny", prompt: "hello", max_tokens: 8, seed: 3 };
      const whole = await client.completions.create(body);
      let text = "";
      for await (const part of await client.completions.create({ ...body, stream: true })) text += part.choices[0]?.text ?? "";
      assert.equal(text, whole.choices[0].text);
      const two = await client.completions.create({ ...body, prompt: ["a", "b"] });
      assert.deepEqual(two.choices.map((c) => c.index), [0, 1]);
      const ids = await client.completions.create({ ...body, prompt: [1, 260, 261] });
      assert.equal(ids.usage.prompt_tokens, 3);

      const lp = await client.completions.create({ ...body, logprobs: 1 });
      assert.equal(lp.choices[0].logprobs.tokens.join(""), lp.choices[0].text);
    });
    await check("abort in mid-stream frees the place", async () => {
      const stream = await client.chat.completions.create({ ...chat, max_tokens: 4000, n: 128, stream: true, ignore_eos: true });
      let n = 0;
      for await (const part of stream) {
        if (part && ++n === 3) stream.controller.abort();
      }
      for (let i = 0; ; i++) {
        if ((await models()).every((m) => !m.n_running)) break;
        assert.ok(i < 500, `still running: ${JSON.stringify(await models())}`);
        await new Promise((r) => setTimeout(r, 20));
      }
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 20);
      await raises(OpenAI.APIUserAbortError, () => client.chat.completions.create(
        { ...chat, n: 128, max_tokens: 4000, ignore_eos: true }, { signal: stop.signal }));
    });
    await check("twenty at once", async () => {
      const all = await Promise.all([...Array(20).keys()].map((i) =>
        client.chat.completions.create({ ...chat, seed: i % 5, max_tokens: 20 })));
      for (let i = 0; i < 20; i++) assert.equal(all[i].choices[0].message.content, all[i % 5].choices[0].message.content);
    });
  },

  async errors() {
    await check("404 is NotFoundError", async () => {
      const e = await raises(OpenAI.NotFoundError, () => client.chat.completions.create({ ...chat, model: "tinny" }),
        { status: 404, code: "model_not_found" });
      assert.match(e.message, /tiny/);
      assert.ok(e.requestID);
      await raises(OpenAI.NotFoundError, () => client.models.retrieve("nobody"), { status: 404 });
      await raises(OpenAI.NotFoundError, () => client.get("/nowhere"), { status: 404 });
    });
    await check("400 is BadRequestError and names the parameter", async () => {
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create({ ...chat, temperature: -1 }),
        { status: 400, param: "temperature" });
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create({ ...chat, n: 1000000000 }),
        { status: 400, param: "n" });
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create({ ...chat, max_tokens: 10 ** 6 }),
        { status: 400, code: "context_length_exceeded" });
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create({ model: "tiny" }),
        { status: 400, param: "messages" });
    });
    await check("a bad request for a stream is an error too, not a stream", async () => {
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create({ ...chat, top_p: 7, stream: true }),
        { status: 400, param: "top_p" });
      await raises(OpenAI.BadRequestError, () => client.chat.completions.create(
        { ...chat, messages: user("word ".repeat(5000)), stream: true }), { code: "context_length_exceeded" });
    });
    await check("a parameter that is not served is refused by name", async () => {
      const e = await raises(OpenAI.APIError, () => client.chat.completions.create(
        { ...chat, modalities: ["audio"] }), { param: "modalities" });
      assert.ok([400, 422].includes(e.status), String(e.status));
    });
    await check("a model that is not one", async () => {
      const e = await raises(OpenAI.APIError, () => client.chat.completions.create({ ...chat, model: "bad" }));
      assert.ok([400, 422, 500].includes(e.status), `${e.status}`);
      assert.match(e.message, /bad/);
    });
    await check("a worker that dies is InternalServerError, and in mid-stream APIError", async () => {
      const kill = async (name) => process.kill((await models()).find((m) => m.name === name).pid, "SIGKILL");
      const long = { ...chat, max_tokens: 4000, n: 128, ignore_eos: true };
      const stream = await client.chat.completions.create({ ...long, stream: true });
      let n = 0;
      const e = await raises(OpenAI.APIError, async () => {
        for await (const part of stream) {
          if (part && ++n === 3) await kill("tiny");
        }
      });
      assert.equal(e.code, "worker_crashed");
      const whole = client.chat.completions.create(long);
      whole.catch(() => {});
      for (let i = 0; ; i++) {
        const m = (await models()).find((one) => one.name === "tiny");
        if (m.pid && m.n_running > 0) break;
        assert.ok(i < 1000, "never ran");
        await new Promise((r) => setTimeout(r, 10));
      }
      await kill("tiny");
      await raises(OpenAI.InternalServerError, () => whole, { status: 500, code: "worker_crashed" });
    });
    await check("with its retries, the client gets over a worker that died", async () => {
      const a = await make({ maxRetries: 5 }).chat.completions.create({ ...chat, max_tokens: 2 });
      assert.equal(a.usage.completion_tokens, 2);
    });
  },

  async full() {
    await check("429 is RateLimitError, and says when to come again", async () => {
      const stop = new AbortController();
      const long = [...Array(3).keys()].map(() => client.chat.completions.create(
        { ...chat, max_tokens: 4000, ignore_eos: true, n: 128 }, { signal: stop.signal }).catch((e) => e));
      let e = null;
      for (let i = 0; e === null && i < 200; i++) {
        const m = (await models()).find((one) => one.name === "tiny");
        if (m.n_running + m.n_waiting < 2) continue;
        e = await client.chat.completions.create({ ...chat, max_tokens: 1 }, { timeout: 2000 }).then(() => null, (x) => x);
      }
      const all = [e, ...(stop.abort(), await Promise.all(long))];
      const refused = all.filter((x) => x instanceof OpenAI.RateLimitError);
      assert.ok(refused.length > 0, all.map((x) => x?.constructor?.name).join());
      assert.equal(refused[0].status, 429);
      assert.ok(Number(refused[0].headers.get("retry-after")) > 0);
    });
  },

  async keys() {
    await check("no key and a wrong one are AuthenticationError", async () => {
      for (const apiKey of ["wrong", key.slice(0, -1), `${key}x`, " "]) {
        await raises(OpenAI.AuthenticationError, () => make({ apiKey }).models.list(), { status: 401, code: "invalid_api_key" });
      }
      await raises(OpenAI.AuthenticationError, () => make({ apiKey: "wrong" }).chat.completions.create(chat), { status: 401 });
    });
    await check("the right key is served", async () => {
      assert.equal((await client.chat.completions.create({ ...chat, max_tokens: 2 })).usage.completion_tokens, 2);
    });
    await check("a key that may only ask is PermissionDeniedError where it manages", async () => {
      await raises(OpenAI.PermissionDeniedError, () => client.post(`${url}/berth/v1/unload`, { body: { model: "tiny" } }),
        { status: 403 });
    });
  },
};

await cases[which]();
