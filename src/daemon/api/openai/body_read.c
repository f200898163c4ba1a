/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of the parameters that are more than a number or a flag, except conversations
 * (body_chat.c). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/api/openai/body_impl.h"
#include "lib/base/limits.h"
#include "lib/base/map.h"
#include "lib/codec/json.h"
#include "lib/sys/config.h"

#define KEEP_ALIVE_MAX_S 31536000
#define TIMEOUT_MAX_S    31536000

static struct str string_of(const json_t *v)
{
    return (struct str){json_string_value(v), json_string_length(v)};
}

int read_model(struct reader *r, const char *name, const json_t *v)
{
    struct err err = ERR_INIT;
    struct str s = string_of(v);
    if (!json_is_string(v))
        return api_refuse(r->e, name, "invalid_type", "'model' must be a string, not %s",
                          json_kind(v));
    if (s.len == 0 || s.len > LIMIT_MODEL_NAME_BYTES || memchr(s.p, '\0', s.len))
        return api_refuse(r->e, name, "invalid_value", "'model' must be a name of 1 to %u bytes",
                          LIMIT_MODEL_NAME_BYTES);
    r->b->model = arena_try_dup(&r->b->req.arena, s.p, s.len, &err);
    return r->b->model ? 0 : no_room(r, name, &err);
}

int read_response_format(struct reader *r, const char *name, const json_t *v)
{
    const json_t *type = json_object_get(v, "type");
    if (!json_is_object(v) || !json_is_string(type))
        return api_refuse(r->e, name, "invalid_type",
                          "'response_format' must be an object with a type");
    if (strcmp(json_string_value(type), "text") != 0)
        return api_refuse(r->e, name, "unsupported_parameter",
                          "'response_format' of type '%s' is not supported: constrained output is "
                          "not available yet",
                          json_string_value(type));
    return 0;
}

int read_n(struct reader *r, const char *name, const json_t *v)
{
    int64_t n = 0;
    int rc = read_int(r, name, v, 1, LIMIT_REQUEST_CHOICES, &n);
    if (rc == 0 && r->n_from && r->b->req.params.n != (uint32_t)n)
        return api_refuse(r->e, name, "invalid_value", "'%s' and '%s' mean the same and differ",
                          name, r->n_from);
    r->n_from = name;
    r->b->req.params.n = (uint32_t)n;
    return rc;
}

int api_keep_alive_read(const json_t *v, uint64_t *ret, struct err *err)
{
    double seconds = json_number_value(v);
    if (json_is_string(v)) {
        if (config_parse_duration(json_string_value(v), 0, KEEP_ALIVE_MAX_S, ret, err) < 0)
            return err_wrap(err, "'keep_alive'");
        return 0;
    }
    if (!json_is_number(v))
        return err_set(err, E_INVALID,
                       "'keep_alive' must be seconds or a duration such as \"5m\", not %s",
                       json_kind(v));
    if (!(seconds <= KEEP_ALIVE_MAX_S))
        return err_set(err, E_INVALID, "'keep_alive' must be at most %d seconds, not %g",
                       KEEP_ALIVE_MAX_S, seconds);
    *ret = seconds < 0 ? RUN_FOREVER : (uint64_t)ceil(seconds);
    return 0;
}

int read_keep_alive(struct reader *r, const char *name, const json_t *v)
{
    struct err err = ERR_INIT;
    r->b->has_keep_alive = true;
    if (api_keep_alive_read(v, &r->b->keep_alive_s, &err) < 0)
        return api_refuse_err(r->e, name, &err);
    return 0;
}

int read_priority(struct reader *r, const char *name, const json_t *v)
{
    int64_t n = 0;
    int rc = read_int(r, name, v, INT32_MIN, INT32_MAX, &n);
    r->b->req.params.priority = (int32_t)n;
    return rc;
}

int read_cache_salt(struct reader *r, const char *name, const json_t *v)
{
    if (!json_is_string(v) || json_string_length(v) == 0 ||
        json_string_length(v) > LIMIT_HTTP_REQUEST_ID_BYTES)
        return api_refuse(r->e, name, "invalid_value", "'%s' must be a string of 1 to %u bytes",
                          name, LIMIT_HTTP_REQUEST_ID_BYTES);
    r->b->req.cache_salt = map_hash(json_string_value(v), json_string_length(v));
    return 0;
}

int read_timeout(struct reader *r, const char *name, const json_t *v)
{
    double seconds = 0;
    int rc = read_num(r, name, v, 0.001, TIMEOUT_MAX_S, &seconds);
    r->b->timeout_ms = (uint64_t)ceil(seconds * 1000);
    return rc;
}

int read_max_tokens(struct reader *r, const char *name, const json_t *v)
{
    int64_t n = 0;
    int rc = read_int(r, name, v, 1, INT32_MAX, &n);
    if (rc < 0)
        return rc;
    if (r->max_tokens_from && r->b->req.params.max_tokens != (uint32_t)n)
        return api_refuse(r->e, name, "invalid_value", "'%s' and '%s' mean the same and differ",
                          name, r->max_tokens_from);
    r->max_tokens_from = name;
    r->b->req.params.max_tokens = (uint32_t)n;
    return 0;
}

static int read_bool(struct reader *r, const char *name, const json_t *v, bool *ret)
{
    if (!json_is_boolean(v))
        return api_refuse(r->e, name, "invalid_type", "'%s' must be true or false, not %s", name,
                          json_kind(v));
    *ret = json_is_true(v);
    return 0;
}

int read_skip_special(struct reader *r, const char *name, const json_t *v)
{
    bool skip = true;
    int rc = read_bool(r, name, v, &skip);
    r->b->req.params.show_special = !skip;
    return rc;
}

int read_stream(struct reader *r, const char *name, const json_t *v)
{
    return read_bool(r, name, v, &r->b->stream);
}

int read_timings(struct reader *r, const char *name, const json_t *v)
{
    return read_bool(r, name, v, &r->b->want_timings);
}

int read_stream_options(struct reader *r, const char *name, const json_t *v)
{
    const char *key;
    json_t *item;
    if (!json_is_object(v))
        return api_refuse(r->e, name, "invalid_type", "'stream_options' must be an object, not %s",
                          json_kind(v));
    json_object_foreach((json_t *)v, key, item)
    {
        bool on = false;
        char full[64];
        snprintf(full, sizeof(full), "stream_options.%.40s", key);
        int rc = json_is_null(item) ? 0 : read_bool(r, full, item, &on);
        if (rc < 0)
            return rc;
        if (strcmp(key, "include_usage") == 0)
            r->b->include_usage = on;
        else if (strcmp(key, "include_obfuscation") != 0 &&
                 (on || strcmp(key, "continuous_usage_stats") != 0))
            return api_refuse(r->e, full, "unsupported_parameter",
                              "'%s' is not supported; include_usage is", full);
    }
    return 0;
}

int read_seed(struct reader *r, const char *name, const json_t *v)
{
    int64_t seed = 0;
    int rc = read_int(r, name, v, INT64_MIN, INT64_MAX, &seed);
    r->b->req.params.seed = (uint64_t)seed;
    r->b->req.params.has_seed = true;
    return rc;
}

int read_top_k(struct reader *r, const char *name, const json_t *v)
{
    int64_t k = 0;
    int rc = read_int(r, name, v, -1, INT32_MAX, &k);
    r->b->req.params.top_k = k > 0 ? (uint32_t)k : 0;
    return rc;
}

int read_repetition_penalty(struct reader *r, const char *name, const json_t *v)
{
    double d = 1;
    int rc = read_num(r, name, v, 0, 100, &d);
    if (rc < 0)
        return rc;
    float *field = &r->b->req.params.repetition_penalty;
    if (d <= 0)
        return api_refuse(r->e, name, "invalid_value", "'%s' must be above 0 and at most 100",
                          name);
    if (r->repetition_from && *field != (float)d)
        return api_refuse(r->e, name, "invalid_value", "'%s' and '%s' mean the same and differ",
                          name, r->repetition_from);
    r->repetition_from = name;
    *field = (float)d;
    return 0;
}

/* A token id written as a decimal key; -1 for anything else. */
static int64_t key_id(const char *s)
{
    int64_t v = 0;
    size_t n = strlen(s);
    if (n == 0 || n > 10 || strspn(s, "0123456789") != n)
        return -1;
    for (size_t i = 0; i < n; i++)
        v = v * 10 + (s[i] - '0');
    return v <= INT32_MAX ? v : -1;
}

int read_logit_bias(struct reader *r, const char *name, const json_t *v)
{
    struct err err = ERR_INIT;
    if (!json_is_object(v))
        return api_refuse(r->e, name, "invalid_type",
                          "'logit_bias' must be an object from token ids to numbers, not %s",
                          json_kind(v));
    size_t n = json_object_size(v);
    if (n > LIMIT_REQUEST_LOGIT_BIAS)
        return api_refuse(r->e, name, "invalid_value",
                          "'logit_bias' must have at most %u entries, not %zu",
                          LIMIT_REQUEST_LOGIT_BIAS, n);
    struct gen_logit_bias *list = arena_try_alloc(&r->b->req.arena, n * sizeof(*list), &err);
    if (!list)
        return no_room(r, name, &err);
    size_t i = 0;
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)v, key, item)
    {
        double d = 0;
        char full[64];
        int64_t id = key_id(key);
        snprintf(full, sizeof(full), "logit_bias.%.40s", key);
        if (id < 0)
            return api_refuse(r->e, full, "invalid_value",
                              "'%s': a key of logit_bias must be a token id between 0 and %d", full,
                              INT32_MAX);
        int rc = read_num(r, full, item, -100, 100, &d);
        if (rc < 0)
            return rc;
        list[i++] = (struct gen_logit_bias){(int32_t)id, (float)d};
    }
    r->b->req.logit_bias = list;
    r->b->req.n_logit_bias = (uint32_t)n;
    return 0;
}

int read_logprobs(struct reader *r, const char *name, const json_t *v)
{
    struct gen_params *p = &r->b->req.params;
    if (r->b->dialect == API_CHAT)
        return read_bool(r, name, v, &p->want_logprobs);
    int64_t n = 0;
    int rc = read_int(r, name, v, 0, LIMIT_REQUEST_TOP_LOGPROBS, &n);
    p->want_logprobs = rc == 0;
    p->top_logprobs = (uint32_t)n;
    return rc;
}

int read_stop(struct reader *r, const char *name, const json_t *v)
{
    struct err err = ERR_INIT;
    bool one = json_is_string(v);
    if (!one && !json_is_array(v))
        return api_refuse(r->e, name, "invalid_type",
                          "'stop' must be a string or an array of strings, not %s", json_kind(v));
    size_t n = one ? 1 : json_array_size(v);
    if (n > LIMIT_REQUEST_STOPS)
        return api_refuse(r->e, name, "invalid_value",
                          "'stop' must have at most %u strings, not %zu", LIMIT_REQUEST_STOPS, n);
    struct str *stops = arena_try_alloc(&r->b->req.arena, n * sizeof(*stops), &err);
    if (!stops)
        return no_room(r, name, &err);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = one ? v : json_array_get(v, i);
        struct str s = string_of(item);
        if (!json_is_string(item) || s.len == 0 || s.len > LIMIT_REQUEST_STOP_BYTES)
            return api_refuse(r->e, name, "invalid_value",
                              "'stop' must hold strings of 1 to %u bytes; item %zu is %s",
                              LIMIT_REQUEST_STOP_BYTES, i,
                              !json_is_string(item) ? json_kind(item)
                              : s.len               ? "longer"
                                                    : "empty");
        stops[i] = (struct str){arena_try_dup(&r->b->req.arena, s.p, s.len, &err), s.len};
        if (!stops[i].p)
            return no_room(r, name, &err);
    }
    r->b->req.stops = stops;
    r->b->req.n_stops = (uint32_t)n;
    return 0;
}

int read_stop_token_ids(struct reader *r, const char *name, const json_t *v)
{
    if (!json_is_array(v))
        return api_refuse(r->e, name, "invalid_type",
                          "'stop_token_ids' must be an array of token ids, not %s", json_kind(v));
    if (json_array_size(v) > LIMIT_REQUEST_STOPS)
        return api_refuse(r->e, name, "invalid_value",
                          "'stop_token_ids' must have at most %u ids, not %zu", LIMIT_REQUEST_STOPS,
                          json_array_size(v));
    return read_ids(r, name, v, &r->b->req.stop_tokens, &r->b->req.n_stop_tokens);
}
