/* SPDX-License-Identifier: Apache-2.0 */
/* Implements answer.h. */
#include "worker/serve/serve.h"

#include "lib/base/limits.h"
#include "lib/base/mem.h"

/* Held text is shorter than the longest stop, plus what one token says. */
#define HELD_MAX_BYTES (LIMIT_REQUEST_STOP_BYTES + 4u * LIMIT_TOKEN_BYTES)

static void fail_fill(uint16_t *fail, struct str s)
{
    uint16_t k = 0;
    fail[0] = 0;
    for (size_t i = 1; i < s.len; i++) {
        while (k && s.p[i] != s.p[k])
            k = fail[k - 1];
        if (s.p[i] == s.p[k])
            k++;
        fail[i] = k;
    }
}

int stop_set_init(struct stop_set *s, const struct str *strs, uint32_t n, struct err *err)
{
    *s = (struct stop_set){.strs = strs};
    if (n == 0)
        return 0;
    s->fail = mem_try_alloc(n, sizeof(*s->fail), err);
    if (!s->fail)
        return -err->code;
    for (; s->n < n; s->n++) {
        BUG_ON(strs[s->n].len == 0 || strs[s->n].len > UINT16_MAX);
        uint16_t *fail = mem_try_alloc(strs[s->n].len, sizeof(*fail), err);
        if (!fail) {
            stop_set_release(s);
            return -err->code;
        }
        fail_fill(fail, strs[s->n]);
        s->fail[s->n] = fail;
    }
    return 0;
}

void stop_set_release(struct stop_set *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        mem_free(s->fail[i]);
    mem_free(s->fail);
    *s = (struct stop_set){0};
}

int answer_init(struct answer *a, const struct tokenizer *tok, const struct stop_set *stops,
                const struct gen_params *p, struct err *err)
{
    *a = (struct answer){.stops = stops,
                         .min_tokens = p->min_tokens,
                         .include_stop = p->include_stop,
                         .stop_index = -1,
                         .has_text = tok};
    buf_init(&a->held, HELD_MAX_BYTES);
    if (tok)
        detok_init(&a->detok, tok, p->show_special, false);
    if (stops->n == 0)
        return 0;
    a->state = mem_try_alloc(stops->n, sizeof(*a->state), err);
    return a->state ? 0 : -err->code;
}

void answer_release(struct answer *a)
{
    mem_free(a->state);
    buf_release(&a->held);
    *a = (struct answer){.stop_index = -1};
}

/* Advances every stop by one byte; the index of the longest that is complete, or -1. */
static int32_t stops_step(struct answer *a, char c)
{
    int32_t hit = -1;
    for (uint32_t i = 0; i < a->stops->n; i++) {
        struct str s = a->stops->strs[i];
        uint16_t k = a->state[i];
        while (k && s.p[k] != c)
            k = a->stops->fail[i][k - 1];
        if (s.p[k] == c)
            k++;
        a->state[i] = k;
        if (k == s.len && (hit < 0 || s.len > a->stops->strs[hit].len))
            hit = (int32_t)i;
    }
    return hit;
}

/* How many of the last bytes may belong to a stop. */
static size_t held_needed(const struct answer *a)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->stops->n; i++)
        n = MAX_OF(n, a->state[i]);
    return n;
}

/* Moves the first n held bytes out. */
static int held_emit(struct answer *a, size_t n, struct buf *out, struct err *err)
{
    buf_append(out, a->held.data, n);
    int rc = buf_status(out, "answer text", err);
    if (rc == 0)
        buf_consume(&a->held, n);
    return rc;
}

/* held has grown past `from`: matches what is new and lets go of what is certain. */
static int match_new(struct answer *a, size_t from, struct buf *out, struct err *err)
{
    if (a->stops->n == 0 || a->n_tokens < a->min_tokens)
        return held_emit(a, a->held.len, out, err);
    for (size_t i = from; i < a->held.len; i++) {
        int32_t hit = stops_step(a, a->held.data[i]);
        if (hit < 0)
            continue;
        size_t end = a->include_stop ? i + 1 : i + 1 - a->stops->strs[hit].len;
        int rc = held_emit(a, end, out, err);
        buf_clear(&a->held);
        a->stop_index = hit;
        return rc < 0 ? rc : 1;
    }
    return held_emit(a, a->held.len - held_needed(a), out, err);
}

int answer_feed(struct answer *a, int32_t token, struct buf *out, struct err *err)
{
    a->n_tokens++;
    a->n_unsent++;
    if (!a->has_text)
        return 0;
    size_t from = a->held.len;
    int rc = detok_feed(&a->detok, token, &a->held, err);
    if (rc == 0)
        rc = buf_status(&a->held, "answer text", err);
    return rc < 0 ? rc : match_new(a, from, out, err);
}

int answer_finish(struct answer *a, struct buf *out, struct err *err)
{
    if (!a->has_text)
        return 0;
    size_t from = a->held.len;
    int rc = detok_finish(&a->detok, &a->held, err);
    if (rc == 0)
        rc = match_new(a, from, out, err);
    return rc != 0 ? rc : held_emit(a, a->held.len, out, err);
}
