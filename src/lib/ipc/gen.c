/* SPDX-License-Identifier: Apache-2.0 */
/* Implements gen.h: defaults and the check of a request, the same on both sides of the treaty. */
#include "lib/ipc/gen.h"

#include "lib/base/limits.h"

/* Sampling values beyond these are typing mistakes, not wishes; inside them every value is served
 * as asked. */
#define TEMPERATURE_MAX        100.0f
#define REPETITION_PENALTY_MAX 100.0f
#define PENALTY_MAX            2.0f
#define LOGIT_BIAS_MAX         100.0f

void gen_params_init(struct gen_params *p)
{
    *p = (struct gen_params){
        .n = 1,
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .add_special = true,
    };
}

void gen_request_init(struct gen_request *r)
{
    *r = (struct gen_request){.input = GEN_INPUT_TEXT};
    arena_init(&r->arena, LIMIT_MSG_BYTES);
    gen_params_init(&r->params);
}

void gen_request_release(struct gen_request *r)
{
    arena_release(&r->arena);
    gen_request_init(r);
}

/* low <= v <= high; NaN fails both comparisons. */
static int check_range(const char *name, float v, float low, float high, struct err *err)
{
    if (v >= low && v <= high)
        return 0;
    return err_set(err, E_INVALID, "%s is %g, and must be between %g and %g", name, (double)v,
                   (double)low, (double)high);
}

/* 0 < v <= high */
static int check_positive(const char *name, float v, float high, struct err *err)
{
    if (v > 0 && v <= high)
        return 0;
    return err_set(err, E_INVALID, "%s is %g, and must be above 0 and at most %g", name, (double)v,
                   (double)high);
}

static int check_count(const char *name, uint32_t v, uint32_t low, uint32_t high, struct err *err)
{
    if (v >= low && v <= high)
        return 0;
    return err_set(err, E_INVALID, "%s is %u, and must be between %u and %u", name, v, low, high);
}

static int check_sampling(const struct gen_params *p, struct err *err)
{
    int rc = check_range("temperature", p->temperature, 0, TEMPERATURE_MAX, err);
    if (rc == 0)
        rc = check_positive("top_p", p->top_p, 1, err);
    if (rc == 0)
        rc = check_range("min_p", p->min_p, 0, 1, err);
    if (rc == 0)
        rc = check_positive("repetition_penalty", p->repetition_penalty, REPETITION_PENALTY_MAX,
                            err);
    if (rc == 0)
        rc = check_range("presence_penalty", p->presence_penalty, -PENALTY_MAX, PENALTY_MAX, err);
    if (rc == 0)
        rc = check_range("frequency_penalty", p->frequency_penalty, -PENALTY_MAX, PENALTY_MAX, err);
    if (rc == 0)
        rc = check_count("top_k", p->top_k, 0, INT32_MAX, err);
    return rc;
}

static int check_counts(const struct gen_params *p, struct err *err)
{
    int rc = check_count("n", p->n, 1, LIMIT_REQUEST_CHOICES, err);
    if (rc == 0)
        rc = check_count("max_tokens", p->max_tokens, 0, INT32_MAX, err);
    if (rc == 0)
        rc = check_count("top_logprobs", p->top_logprobs, 0, LIMIT_REQUEST_TOP_LOGPROBS, err);
    if (rc == 0 && p->max_tokens && p->min_tokens > p->max_tokens)
        rc = err_set(err, E_INVALID, "min_tokens is %u, more than max_tokens, %u", p->min_tokens,
                     p->max_tokens);
    if (rc == 0)
        rc = check_count("min_tokens", p->min_tokens, 0, LIMIT_MODEL_CONTEXT, err);
    if (rc == 0 && p->top_logprobs && !p->want_logprobs)
        rc = err_set(err, E_INVALID, "top_logprobs is %u, but logprobs are not asked for",
                     p->top_logprobs);
    return rc;
}

static int check_input(const struct gen_request *r, struct err *err)
{
    switch (r->input) {
    case GEN_INPUT_TEXT:
        if (r->text.len > LIMIT_TEXT_BYTES)
            return err_set(err, E_LIMIT, "prompt has %zu bytes, more than %u", r->text.len,
                           LIMIT_TEXT_BYTES);
        return 0;
    case GEN_INPUT_TOKENS:
        if (r->n_tokens == 0)
            return err_set(err, E_INVALID, "prompt has no tokens, and needs at least one");
        if (r->n_tokens > LIMIT_MODEL_CONTEXT)
            return err_set(err, E_LIMIT, "prompt has %u tokens, more than %u", r->n_tokens,
                           LIMIT_MODEL_CONTEXT);
        for (uint32_t i = 0; i < r->n_tokens; i++) {
            if (r->tokens[i] < 0)
                return err_set(err, E_INVALID, "prompt[%u] is %d, and token ids start at 0", i,
                               r->tokens[i]);
        }
        return 0;
    case GEN_INPUT_CHAT:
        if (r->messages_json.len == 0)
            return err_set(err, E_INVALID, "messages is missing");
        if (r->messages_json.len > LIMIT_TEXT_BYTES || r->tools_json.len > LIMIT_TEXT_BYTES ||
            r->kwargs_json.len > LIMIT_TEXT_BYTES)
            return err_set(err, E_LIMIT,
                           "messages, tools or chat_template_kwargs: more than %u bytes",
                           LIMIT_TEXT_BYTES);
        return 0;
    }
    return err_set(err, E_INVALID, "request has an input of unknown kind %d", (int)r->input);
}

static int check_stops(const struct gen_request *r, struct err *err)
{
    if (r->n_stops > LIMIT_REQUEST_STOPS)
        return err_set(err, E_INVALID, "stop has %u strings, more than %u", r->n_stops,
                       LIMIT_REQUEST_STOPS);
    for (uint32_t i = 0; i < r->n_stops; i++) {
        if (r->stops[i].len == 0)
            return err_set(err, E_INVALID, "stop[%u] is empty, and would end every answer at once",
                           i);
        if (r->stops[i].len > LIMIT_REQUEST_STOP_BYTES)
            return err_set(err, E_INVALID, "stop[%u] has %zu bytes, more than %u", i,
                           r->stops[i].len, LIMIT_REQUEST_STOP_BYTES);
        if (!gen_text_is_utf8(r->stops[i]))
            return err_set(err, E_INVALID, "stop[%u] is not valid UTF-8", i);
    }
    if (r->n_stop_tokens > LIMIT_REQUEST_STOPS)
        return err_set(err, E_INVALID, "stop_token_ids has %u ids, more than %u", r->n_stop_tokens,
                       LIMIT_REQUEST_STOPS);
    for (uint32_t i = 0; i < r->n_stop_tokens; i++) {
        if (r->stop_tokens[i] < 0)
            return err_set(err, E_INVALID, "stop_token_ids[%u] is %d, and token ids start at 0", i,
                           r->stop_tokens[i]);
    }
    return 0;
}

static int check_bias(const struct gen_request *r, struct err *err)
{
    if (r->n_logit_bias > LIMIT_REQUEST_LOGIT_BIAS)
        return err_set(err, E_INVALID, "logit_bias has %u entries, more than %u", r->n_logit_bias,
                       LIMIT_REQUEST_LOGIT_BIAS);
    for (uint32_t i = 0; i < r->n_logit_bias; i++) {
        const struct gen_logit_bias *b = &r->logit_bias[i];
        if (b->token < 0)
            return err_set(err, E_INVALID, "logit_bias names token %d, and token ids start at 0",
                           b->token);
        if (!(b->bias >= -LOGIT_BIAS_MAX && b->bias <= LOGIT_BIAS_MAX))
            return err_set(err, E_INVALID,
                           "logit_bias of token %d is %g, and must be between %g and %g", b->token,
                           (double)b->bias, (double)-LOGIT_BIAS_MAX, (double)LOGIT_BIAS_MAX);
    }
    return 0;
}

int gen_request_check(const struct gen_request *r, struct err *err)
{
    int rc = check_input(r, err);
    if (rc == 0)
        rc = check_counts(&r->params, err);
    if (rc == 0)
        rc = check_sampling(&r->params, err);
    if (rc == 0)
        rc = check_stops(r, err);
    if (rc == 0)
        rc = check_bias(r, err);
    return rc;
}

/* RFC 3629: shortest form, no surrogates, nothing past U+10FFFF. */
bool gen_text_is_utf8(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p, *end = p + s.len;
    while (p < end) {
        unsigned c = *p;
        size_t n = c < 0x80                ? 1
                   : c >= 0xC2 && c < 0xE0 ? 2
                   : c >= 0xE0 && c < 0xF0 ? 3
                   : c >= 0xF0 && c < 0xF5 ? 4
                                           : 0;
        if (n == 0 || (size_t)(end - p) < n)
            return false;
        for (size_t i = 1; i < n; i++) {
            if ((p[i] & 0xC0) != 0x80)
                return false;
        }
        if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) ||
            (c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F))
            return false;
        p += n;
    }
    return true;
}
