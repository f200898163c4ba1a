/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts of POST /v1/completions: one text, one list of token ids, or several of them.  Each makes
 * a request of its own to the runner. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/openai/body_impl.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

int read_ids(struct reader *r, const char *name, const json_t *v, const int32_t **ret,
             uint32_t *ret_n)
{
    struct err err = ERR_INIT;
    size_t n = json_array_size(v);
    int32_t *ids =
        arena_try_alloc(&r->b->req.arena, n * sizeof(*ids), &err); /* n <= LIMIT_JSON_VALUES */
    if (!ids)
        return no_room(r, name, &err);
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        char item[64];
        snprintf(item, sizeof(item), "%s[%zu]", name, i);
        int rc = read_int(r, item, json_array_get(v, i), 0, INT32_MAX, &id);
        if (rc < 0)
            return rc;
        ids[i] = (int32_t)id;
    }
    *ret = ids;
    *ret_n = (uint32_t)n;
    return 0;
}

static int read_one(struct reader *r, const char *name, const json_t *v, struct api_prompt *ret)
{
    struct err err = ERR_INIT;
    if (json_is_string(v)) {
        size_t n = json_string_length(v);
        ret->input = GEN_INPUT_TEXT;
        ret->text = (struct str){arena_try_dup(&r->b->req.arena, json_string_value(v), n, &err), n};
        return ret->text.p ? 0 : no_room(r, name, &err);
    }
    if (!json_is_array(v) || json_array_size(v) == 0)
        return api_refuse(r->e, name, "invalid_type",
                          "'%s' must be a string or a non-empty array of token ids, not %s", name,
                          json_is_array(v) ? "an empty array" : json_kind(v));
    ret->input = GEN_INPUT_TOKENS;
    return read_ids(r, name, v, &ret->tokens, &ret->n_tokens);
}

int read_prompt(struct reader *r, const char *name, const json_t *v)
{
    struct gen_request *q = &r->b->req;
    struct err err = ERR_INIT;
    const json_t *first = json_array_get(v, 0);
    bool several = json_is_array(v) && (json_is_string(first) || json_is_array(first));
    size_t n = several ? json_array_size(v) : 1;
    if (n > LIMIT_REQUEST_PROMPTS)
        return api_refuse(r->e, name, "invalid_value",
                          "'prompt' holds %zu prompts; one request may have %u", n,
                          LIMIT_REQUEST_PROMPTS);
    struct api_prompt *list = arena_try_alloc(&q->arena, n * sizeof(*list), &err);
    if (!list)
        return no_room(r, name, &err);
    for (size_t i = 0; i < n; i++) {
        char item[64];
        snprintf(item, sizeof(item), several ? "%s[%zu]" : "%s", name, i);
        int rc = read_one(r, item, several ? json_array_get(v, i) : v, &list[i]);
        if (rc < 0)
            return rc;
    }
    r->b->prompts = list;
    r->b->n_prompts = (uint32_t)n;
    q->input = list[0].input;
    q->text = list[0].text;
    q->tokens = list[0].tokens;
    q->n_tokens = list[0].n_tokens;
    return 0;
}

/* A copy of n items of size bytes in a's memory; NULL for none is no failure. */
static int copy(struct arena *a, const void *from, size_t n, size_t size, const void **ret,
                struct err *err)
{
    void *p = n ? arena_try_alloc(a, n * size, err) : NULL;
    if (n && !p)
        return -err->code;
    if (n)
        memcpy(p, from, n * size);
    *ret = p;
    return 0;
}

static int copy_str(struct arena *a, struct str from, struct str *ret, struct err *err)
{
    char *p = arena_try_dup(a, from.p ? from.p : "", from.len, err);
    if (!p)
        return -err->code;
    *ret = (struct str){p, from.len};
    return 0;
}

static int copy_stops(struct gen_request *to, const struct gen_request *from, struct err *err)
{
    const void *p = NULL;
    int rc = copy(&to->arena, from->stops, from->n_stops, sizeof(*from->stops), &p, err);
    struct str *stops = (struct str *)p;
    for (uint32_t i = 0; rc == 0 && i < from->n_stops; i++)
        rc = copy_str(&to->arena, from->stops[i], &stops[i], err);
    to->stops = stops;
    to->n_stops = rc == 0 ? from->n_stops : 0;
    return rc;
}

int api_body_request(const struct api_body *b, uint32_t i, struct gen_request *ret, struct err *err)
{
    const struct gen_request *q = &b->req;
    const struct api_prompt *one = &b->prompts[i];
    const void *ids = NULL, *stop_ids = NULL, *bias = NULL;
    gen_request_init(ret);
    ret->params = q->params;
    ret->cache_salt = q->cache_salt;
    ret->input = one->input;
    int rc = copy_str(&ret->arena, one->text, &ret->text, err);
    if (rc == 0)
        rc = copy(&ret->arena, one->tokens, one->n_tokens, sizeof(*one->tokens), &ids, err);
    if (rc == 0)
        rc = copy(&ret->arena, q->stop_tokens, q->n_stop_tokens, sizeof(*q->stop_tokens), &stop_ids,
                  err);
    if (rc == 0)
        rc = copy(&ret->arena, q->logit_bias, q->n_logit_bias, sizeof(*q->logit_bias), &bias, err);
    if (rc == 0)
        rc = copy_stops(ret, q, err);
    /* Prompts that are the same text get different answers, unless a seed says otherwise. */
    if (rc == 0 && i > 0 && b->is_seed_drawn)
        rc = draw_seed(&ret->params, err);
    ret->tokens = ids;
    ret->n_tokens = one->n_tokens;
    ret->stop_tokens = stop_ids;
    ret->n_stop_tokens = q->n_stop_tokens;
    ret->logit_bias = bias;
    ret->n_logit_bias = q->n_logit_bias;
    if (rc < 0)
        gen_request_release(ret);
    return rc;
}
