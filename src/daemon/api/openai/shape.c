/* SPDX-License-Identifier: Apache-2.0 */
/* Implements shape.h.  Field order and null fields follow what OpenAI's own service sends. */
#include "daemon/api/openai/shape.h"

#include <math.h>
#include <stdio.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/net/sse.h"

static const char *const object_names[][2] = {
    [API_COMPLETION] = {"text_completion", "text_completion"},
    [API_CHAT] = {"chat.completion", "chat.completion.chunk"},
};

static void put_head(struct shape *s, bool is_chunk, const char *fingerprint, struct buf *b)
{
    if (is_chunk)
        buf_append_str(b, "data: ");
    buf_printf(b, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", s->id,
               object_names[s->dialect][is_chunk], (long long)s->created);
    buf_append(b, s->model.data, s->model.len);
    buf_append_str(b, ",\"system_fingerprint\":");
    json_put_str(b, str_from(fingerprint));
    buf_append_str(b, ",\"choices\":[");
}

int shape_init(struct shape *s, const struct api_body *b, const char *id, int64_t created,
               struct err *err)
{
    const struct gen_params *p = &b->req.params;
    *s = (struct shape){.dialect = b->dialect,
                        .include_usage = b->include_usage,
                        .want_timings = b->want_timings,
                        .want_logprobs = p->want_logprobs,
                        .top_logprobs = p->top_logprobs,
                        .created = created,
                        .n = p->n * b->n_prompts};
    snprintf(s->id, sizeof(s->id), "%s", id);
    snprintf(s->fingerprint, sizeof(s->fingerprint), "fp_0");
    s->choices = mem_try_alloc(s->n, sizeof(*s->choices), err);
    if (!s->choices)
        return -err->code;
    for (uint32_t i = 0; i < s->n; i++) {
        struct shape_choice *c = &s->choices[i];
        struct buf *bufs[] = {&c->text,           &c->content,      &c->tokens,
                              &c->token_logprobs, &c->top_logprobs, &c->text_offset};
        for (size_t j = 0; j < ARRAY_LEN(bufs); j++)
            buf_init(bufs[j], LIMIT_ANSWER_BYTES);
    }
    buf_init(&s->model, 8 * LIMIT_MODEL_NAME_BYTES);
    buf_init(&s->head, 16 * LIMIT_MODEL_NAME_BYTES);
    json_put_str(&s->model, str_from(b->model));
    int rc = buf_status(&s->model, "the model's name", err);
    if (rc < 0)
        shape_release(s);
    return rc;
}

void shape_begin(struct shape *s, const char *fingerprint)
{
    if (s->head.len > 0)
        return;
    if (fingerprint && *fingerprint)
        snprintf(s->fingerprint, sizeof(s->fingerprint), "%s", fingerprint);
    put_head(s, true, s->fingerprint, &s->head);
}

void shape_release(struct shape *s)
{
    for (uint32_t i = 0; s->choices && i < s->n; i++) {
        struct shape_choice *c = &s->choices[i];
        struct buf *bufs[] = {&c->text,           &c->content,      &c->tokens,
                              &c->token_logprobs, &c->top_logprobs, &c->text_offset};
        for (size_t j = 0; j < ARRAY_LEN(bufs); j++)
            buf_release(bufs[j]);
    }
    mem_free(s->choices);
    s->choices = NULL;
    buf_release(&s->model);
    buf_release(&s->head);
}

static uint64_t count_chars(struct str s)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

/* A token as a string: its text, or "bytes:\xe2\x80" when it is not UTF-8 by itself, as OpenAI
 * writes it. */
static void put_token(struct buf *b, struct str bytes)
{
    if (gen_text_is_utf8(bytes)) {
        json_put_str(b, bytes);
        return;
    }
    buf_append_str(b, "\"bytes:");
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(b, "\\\\x%02x", (unsigned char)bytes.p[i]);
    buf_append_char(b, '"');
}

/* -9999 stands for a probability of 0: JSON has no infinity. */
static void put_logprob(struct buf *b, float v)
{
    json_put_float(b, isfinite(v) ? v : -9999.0f);
}

static void put_chat_token(struct buf *b, struct str bytes, float logprob)
{
    buf_append_str(b, "{\"token\":");
    put_token(b, bytes);
    buf_append_str(b, ",\"logprob\":");
    put_logprob(b, logprob);
    buf_append_str(b, ",\"bytes\":[");
    for (size_t i = 0; i < bytes.len; i++)
        buf_printf(b, "%s%u", i ? "," : "", (unsigned char)bytes.p[i]);
    buf_append_char(b, ']');
}

static void add_chat_token(struct shape *s, struct shape_choice *c, const struct gen_token *t)
{
    struct buf *b = &c->content;
    if (b->len)
        buf_append_char(b, ',');
    put_chat_token(b, t->bytes, t->logprob);
    buf_append_str(b, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < t->n_top && i < s->top_logprobs; i++) {
        if (i)
            buf_append_char(b, ',');
        put_chat_token(b, t->top[i].bytes, t->top[i].logprob);
        buf_append_char(b, '}');
    }
    buf_append_str(b, "]}");
}

/* The chosen token comes first when it is not among the likeliest, as it does at OpenAI. */
static void add_completion_top(struct shape *s, struct shape_choice *c, const struct gen_token *t)
{
    struct buf *b = &c->top_logprobs;
    bool chosen_in_top = false;
    for (uint32_t i = 0; i < t->n_top && i < s->top_logprobs; i++)
        chosen_in_top |= t->top[i].token == t->token || str_eq(t->top[i].bytes, t->bytes);
    buf_append_char(b, '{');
    const char *sep = "";
    if (!chosen_in_top) {
        put_token(b, t->bytes);
        buf_append_char(b, ':');
        put_logprob(b, t->logprob);
        sep = ",";
    }
    for (uint32_t i = 0; i < t->n_top && i < s->top_logprobs; i++) {
        bool again = false; /* two tokens may spell the same text: the likelier one is shown */
        for (uint32_t j = 0; j < i; j++)
            again |= str_eq(t->top[j].bytes, t->top[i].bytes);
        if (again)
            continue;
        buf_append_str(b, sep);
        put_token(b, t->top[i].bytes);
        buf_append_char(b, ':');
        put_logprob(b, t->top[i].logprob);
        sep = ",";
    }
    buf_append_char(b, '}');
}

static void add_completion_token(struct shape *s, struct shape_choice *c, const struct gen_token *t,
                                 uint64_t offset)
{
    if (c->tokens.len) {
        buf_append_char(&c->tokens, ',');
        buf_append_char(&c->token_logprobs, ',');
        buf_append_char(&c->text_offset, ',');
        buf_append_char(&c->top_logprobs, ',');
    }
    put_token(&c->tokens, t->bytes);
    put_logprob(&c->token_logprobs, t->logprob);
    buf_printf(&c->text_offset, "%llu", (unsigned long long)offset);
    if (s->top_logprobs)
        add_completion_top(s, c, t);
    else
        buf_append_str(&c->top_logprobs, "{}");
}

static void add_tokens(struct shape *s, struct shape_choice *c, const struct gen_event *ev)
{
    uint64_t offset = c->n_chars;
    for (uint32_t i = 0; s->want_logprobs && ev->tokens && i < ev->n_tokens; i++) {
        if (s->dialect == API_CHAT)
            add_chat_token(s, c, &ev->tokens[i]);
        else
            add_completion_token(s, c, &ev->tokens[i], offset);
        offset += count_chars(ev->tokens[i].bytes);
    }
    c->n_chars += count_chars(ev->text);
}

/* What was added since the last time, or null. */
static void put_logprobs(struct shape *s, struct shape_choice *c, struct buf *out)
{
    if (!s->want_logprobs) {
        buf_append_str(out, "null");
    } else if (s->dialect == API_CHAT) {
        buf_append_str(out, "{\"content\":[");
        buf_append(out, c->content.data, c->content.len);
        buf_append_str(out, "],\"refusal\":null}");
    } else {
        const struct {
            const char *name;
            struct buf *items;
        } arrays[] = {{"{\"tokens\":[", &c->tokens},
                      {"],\"token_logprobs\":[", &c->token_logprobs},
                      {"],\"top_logprobs\":[", &c->top_logprobs},
                      {"],\"text_offset\":[", &c->text_offset}};
        for (size_t i = 0; i < ARRAY_LEN(arrays); i++) {
            buf_append_str(out, arrays[i].name);
            buf_append(out, arrays[i].items->data, arrays[i].items->len);
            buf_clear(arrays[i].items);
        }
        buf_append_str(out, "]}");
    }
    buf_clear(&c->content);
}

static const char *finish_name(enum gen_finish f)
{
    return f == GEN_FINISH_LENGTH ? "length" : "stop";
}

/* No printf where it is done for every token. */
static void put_uint(struct buf *out, uint32_t v)
{
    char digits[10];
    size_t n = sizeof(digits);
    do
        digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    buf_append(out, digits + n, sizeof(digits) - n);
}

static void chunk_begin(struct shape *s, struct buf *out)
{
    shape_begin(s, NULL);
    buf_append(out, s->head.data, s->head.len);
}

static void chunk_end(struct shape *s, struct buf *out)
{
    buf_append_str(out, s->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

void shape_chunk_role(struct shape *s, uint32_t choice, struct buf *out)
{
    if (s->dialect != API_CHAT)
        return; /* text has no author */
    chunk_begin(s, out);
    buf_printf(
        out,
        "{\"index\":%u,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
        "\"finish_reason\":null}",
        choice);
    chunk_end(s, out);
}

void shape_chunk_delta(struct shape *s, uint32_t choice, const struct gen_event *ev,
                       struct buf *out)
{
    struct shape_choice *c = &s->choices[choice];
    add_tokens(s, c, ev);
    bool has_logprobs = c->content.len || c->tokens.len;
    if (ev->text.len == 0 && !has_logprobs)
        return;
    chunk_begin(s, out);
    if (s->dialect == API_CHAT) {
        buf_append_str(out, "{\"index\":");
        put_uint(out, choice);
        buf_append_str(out, ",\"delta\":{\"content\":");
        json_put_str(out, ev->text);
        buf_append_char(out, '}');
        if (has_logprobs) {
            buf_append_str(out, ",\"logprobs\":");
            put_logprobs(s, c, out);
        }
    } else {
        buf_append_str(out, "{\"text\":");
        json_put_str(out, ev->text);
        buf_append_str(out, ",\"index\":");
        put_uint(out, choice);
        buf_append_str(out, ",\"logprobs\":");
        put_logprobs(s, c, out);
    }
    buf_append_str(out, ",\"finish_reason\":null}");
    chunk_end(s, out);
}

void shape_chunk_finish(struct shape *s, uint32_t choice, enum gen_finish finish, struct buf *out)
{
    chunk_begin(s, out);
    if (s->dialect == API_CHAT)
        buf_printf(out, "{\"index\":%u,\"delta\":{},\"finish_reason\":\"%s\"}", choice,
                   finish_name(finish));
    else
        buf_printf(out, "{\"text\":\"\",\"index\":%u,\"logprobs\":null,\"finish_reason\":\"%s\"}",
                   choice, finish_name(finish));
    chunk_end(s, out);
}

static void put_usage(const struct shape_usage *u, struct buf *out)
{
    buf_printf(out,
               "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%llu,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
               u->n_prompt, u->n_generated, (unsigned long long)u->n_prompt + u->n_generated,
               u->n_cached);
}

static void put_rate(uint32_t n, double ms, struct buf *out)
{
    if (n && ms > 0)
        buf_printf(out, "%.3f", n / ms * 1e3);
    else
        buf_append_str(out, "null");
}

/* As llama-server's: the engine's own times, whatever came of them on the way.  The first token of
 * an answer is the prompt's work, so that the speed is of those after it. */
static void put_timings(const struct shape *s, const struct shape_usage *u, struct buf *out)
{
    uint32_t n_read = u->n_prompt - MIN_OF(u->n_cached, u->n_prompt);
    uint32_t n_after = u->n_generated - MIN_OF(s->n, u->n_generated);
    buf_printf(out,
               ",\"timings\":{\"cache_n\":%u,\"prompt_n\":%u,\"prompt_ms\":%.3f,"
               "\"prompt_per_second\":",
               u->n_cached, n_read, u->prefill_ms);
    put_rate(n_read, u->prefill_ms, out);
    buf_printf(out, ",\"predicted_n\":%u,\"predicted_ms\":%.3f,\"predicted_per_second\":",
               u->n_generated, u->decode_ms);
    put_rate(n_after, u->decode_ms, out);
    buf_append_char(out, '}');
}

void shape_chunk_usage(struct shape *s, const struct shape_usage *u, struct buf *out)
{
    chunk_begin(s, out);
    buf_append_str(out, "],\"usage\":");
    put_usage(u, out);
    if (s->want_timings)
        put_timings(s, u, out);
    buf_append_str(out, "}\n\n");
}

void shape_collect(struct shape *s, uint32_t choice, const struct gen_event *ev)
{
    struct shape_choice *c = &s->choices[choice];
    add_tokens(s, c, ev);
    buf_append(&c->text, ev->text.p, ev->text.len);
}

int shape_status(const struct shape *s, struct err *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->n; i++) {
        const struct shape_choice *c = &s->choices[i];
        const struct buf *bufs[] = {&c->text, &c->content, &c->tokens, &c->token_logprobs,
                                    &c->top_logprobs};
        for (size_t j = 0; rc == 0 && j < ARRAY_LEN(bufs); j++)
            rc = buf_status(bufs[j], "the answer, which is better streamed", err);
    }
    return rc;
}

static void put_choice(struct shape *s, uint32_t i, struct buf *out)
{
    struct shape_choice *c = &s->choices[i];
    struct str text = {buf_str(&c->text), c->text.len};
    if (s->dialect == API_CHAT) {
        buf_printf(out, "{\"index\":%u,\"message\":{\"role\":\"assistant\",\"content\":", i);
        json_put_str(out, text);
        buf_append_str(out, ",\"refusal\":null},\"logprobs\":");
    } else {
        buf_append_str(out, "{\"text\":");
        json_put_str(out, text);
        buf_printf(out, ",\"index\":%u,\"logprobs\":", i);
    }
    put_logprobs(s, c, out);
    buf_printf(out, ",\"finish_reason\":\"%s\"}", finish_name(c->finish));
}

void shape_whole(struct shape *s, const struct shape_usage *u, struct buf *out)
{
    put_head(s, false, s->fingerprint, out);
    for (uint32_t i = 0; i < s->n; i++) {
        if (i)
            buf_append_char(out, ',');
        put_choice(s, i, out);
    }
    buf_append_str(out, "],\"usage\":");
    put_usage(u, out);
    if (s->want_timings)
        put_timings(s, u, out);
    buf_append_char(out, '}');
}
