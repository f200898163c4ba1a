/* SPDX-License-Identifier: Apache-2.0 */
/* Implements frame.h's typed payloads: LOAD, LOADED, GENERATE, EVENT.  docs/PROTOCOL-ipc.md lists
 * the fields in order.
 *
 * A decoder takes nothing for granted: every count is held against the bytes that are left before
 * memory is asked for, every enum and flag against its range, and the payload must be used up
 * exactly. */
#include <math.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/ipc/frame.h"

/* Longest name in a LOAD or LOADED, and in a log line about it. */
#define MSG_NAME_BYTES 4096u
#define MSG_TEXT_BYTES (64u << 10)

static struct cursor cursor_on(struct str payload)
{
    return (struct cursor){.p = payload.p, .left = payload.len};
}

static int cursor_end(const struct cursor *c, const char *what, struct err *err)
{
    if (c->bad)
        return err_set(err, E_FORMAT, "message %s is cut short or out of range", what);
    if (c->left)
        return err_set(err, E_FORMAT, "message %s has %zu bytes too many", what, c->left);
    return 0;
}

static bool get_bool(struct cursor *c, bool *ret)
{
    uint8_t v;
    if (!get_u8(c, &v))
        return false;
    c->bad = c->bad || v > 1;
    *ret = v == 1;
    return !c->bad;
}

static bool get_i32(struct cursor *c, int32_t *ret)
{
    uint32_t v;
    if (!get_u32(c, &v))
        return false;
    *ret = (int32_t)v;
    return true;
}

/* A count of items that take at least item_bytes each: what cannot be there is refused before
 * memory is asked for. */
static bool get_count(struct cursor *c, uint32_t max, size_t item_bytes, uint32_t *ret)
{
    if (!get_u32(c, ret))
        return false;
    c->bad = *ret > max || *ret > c->left / item_bytes;
    return !c->bad;
}

/* Room for n items; NULL with err set when there is none, and a unique pointer for n 0. */
static void *array_of(struct arena *a, uint32_t n, size_t item_bytes, struct err *err)
{
    uint64_t bytes;
    if (!size_mul(n, item_bytes, &bytes)) {
        err_set(err, E_LIMIT, "a list of %u items is too large", n);
        return NULL;
    }
    return arena_try_alloc(a, (size_t)bytes, err);
}

/* --- LOAD and LOADED
 * ------------------------------------------------------------------------------------------- */

int msg_load_encode(struct buf *out, const struct msg_load *m, struct err *err)
{
    put_str(out, m->model_name);
    put_u32(out, m->n_fds);
    for (uint32_t i = 0; i < m->n_fds; i++)
        put_str(out, m->file_names[i]);
    put_u32(out, m->n_draft_fds);
    put_u8(out, m->may_lack_draft);
    put_u32(out, m->n_threads);
    put_u32(out, m->n_ctx);
    put_u32(out, m->max_num_seqs);
    put_u32(out, m->max_num_batched_tokens);
    put_u32(out, m->block_size);
    put_u32(out, m->kv_type);
    put_u8(out, m->no_prefix_cache);
    for (int i = 0; i < WEIGHTS_N; i++)
        put_u8(out, m->has_prepared[i]);
    put_u32(out, m->n_speculate);
    put_f32(out, m->min_acceptance);
    put_u64(out, m->kv_cache_bytes);
    put_str(out, m->cpu_level);
    put_str(out, m->chat_template);
    return buf_status(out, "message LOAD", err);
}

int msg_load_decode(struct str payload, struct arena *a, struct msg_load *ret, struct err *err)
{
    struct cursor c = cursor_on(payload);
    *ret = (struct msg_load){0};
    get_str(&c, MSG_NAME_BYTES, &ret->model_name);
    if (get_count(&c, LIMIT_MSG_FDS, sizeof(uint32_t), &ret->n_fds)) {
        struct str *names = array_of(a, ret->n_fds, sizeof(*names), err);
        if (!names)
            return err_wrap(err, "message LOAD");
        for (uint32_t i = 0; i < ret->n_fds; i++)
            get_str(&c, MSG_NAME_BYTES, &names[i]);
        ret->file_names = names;
    }
    get_u32(&c, &ret->n_draft_fds);
    c.bad = c.bad || (ret->n_draft_fds && ret->n_draft_fds >= ret->n_fds);
    get_bool(&c, &ret->may_lack_draft);
    get_u32(&c, &ret->n_threads);
    get_u32(&c, &ret->n_ctx);
    get_u32(&c, &ret->max_num_seqs);
    get_u32(&c, &ret->max_num_batched_tokens);
    get_u32(&c, &ret->block_size);
    get_u32(&c, &ret->kv_type);
    get_bool(&c, &ret->no_prefix_cache);
    for (int i = 0; i < WEIGHTS_N; i++)
        get_bool(&c, &ret->has_prepared[i]);
    c.bad = c.bad || (ret->has_prepared[WEIGHTS_OF_DRAFT] && !ret->n_draft_fds);
    get_u32(&c, &ret->n_speculate);
    get_f32(&c, &ret->min_acceptance);
    get_u64(&c, &ret->kv_cache_bytes);
    get_str(&c, MSG_NAME_BYTES, &ret->cpu_level);
    get_str(&c, LIMIT_TEMPLATE_BYTES, &ret->chat_template);
    return cursor_end(&c, "LOAD", err);
}

int msg_loaded_encode(struct buf *out, const struct msg_loaded *m, struct err *err)
{
    put_u64(out, m->weight_bytes);
    put_u64(out, m->kv_bytes);
    put_u64(out, m->scratch_bytes);
    put_u64(out, m->draft_weight_bytes);
    put_u32(out, m->n_ctx);
    put_u32(out, m->n_vocab);
    put_u32(out, m->n_layer);
    put_u64(out, m->n_params);
    for (int i = 0; i < WEIGHTS_N; i++) {
        put_u64(out, m->prepared[i].n_bytes);
        put_u8(out, m->prepared[i].is_used);
    }
    put_u8(out, m->has_chat_template);
    put_u8(out, m->has_text);
    put_str(out, m->arch);
    put_str(out, m->quant);
    put_str(out, m->cpu_level);
    put_str(out, m->summary);
    put_str(out, m->draft_refusal);
    return buf_status(out, "message LOADED", err);
}

int msg_loaded_decode(struct str payload, struct arena *a, struct msg_loaded *ret, struct err *err)
{
    (void)a; /* everything is a view of the payload */
    struct cursor c = cursor_on(payload);
    *ret = (struct msg_loaded){0};
    get_u64(&c, &ret->weight_bytes);
    get_u64(&c, &ret->kv_bytes);
    get_u64(&c, &ret->scratch_bytes);
    get_u64(&c, &ret->draft_weight_bytes);
    get_u32(&c, &ret->n_ctx);
    get_u32(&c, &ret->n_vocab);
    get_u32(&c, &ret->n_layer);
    get_u64(&c, &ret->n_params);
    for (int i = 0; i < WEIGHTS_N; i++) {
        get_u64(&c, &ret->prepared[i].n_bytes);
        get_bool(&c, &ret->prepared[i].is_used);
    }
    get_bool(&c, &ret->has_chat_template);
    get_bool(&c, &ret->has_text);
    get_str(&c, MSG_NAME_BYTES, &ret->arch);
    get_str(&c, MSG_NAME_BYTES, &ret->quant);
    get_str(&c, MSG_NAME_BYTES, &ret->cpu_level);
    get_str(&c, MSG_TEXT_BYTES, &ret->summary);
    get_str(&c, ERR_MSG_MAX, &ret->draft_refusal);
    if (!c.bad && !(gen_text_is_utf8(ret->draft_refusal) &&
                   gen_text_is_utf8(ret->arch) && gen_text_is_utf8(ret->quant) &&
                    gen_text_is_utf8(ret->cpu_level) && gen_text_is_utf8(ret->summary)))
        return err_set(err, E_FORMAT, "message LOADED has a text that is not valid UTF-8");
    return cursor_end(&c, "LOADED", err);
}

/* --- GENERATE
 * --------------------------------------------------------------------------------------------------
 */

static void put_params(struct buf *out, const struct gen_params *p)
{
    put_u32(out, p->max_tokens);
    put_u32(out, p->min_tokens);
    put_u32(out, p->n);
    put_u8(out, p->has_seed);
    put_u64(out, p->seed);
    put_f32(out, p->temperature);
    put_u32(out, p->top_k);
    put_u32(out, (uint32_t)p->priority);
    put_f32(out, p->top_p);
    put_f32(out, p->min_p);
    put_f32(out, p->repetition_penalty);
    put_f32(out, p->presence_penalty);
    put_f32(out, p->frequency_penalty);
    put_u8(out, p->want_logprobs);
    put_u32(out, p->top_logprobs);
    put_u8(out, p->ignore_eos);
    put_u8(out, p->add_special);
    put_u8(out, p->echo);
    put_u8(out, p->include_stop);
    put_u8(out, p->show_special);
}

static void get_params(struct cursor *c, struct gen_params *p)
{
    get_u32(c, &p->max_tokens);
    get_u32(c, &p->min_tokens);
    get_u32(c, &p->n);
    get_bool(c, &p->has_seed);
    get_u64(c, &p->seed);
    get_f32(c, &p->temperature);
    get_u32(c, &p->top_k);
    get_i32(c, &p->priority);
    get_f32(c, &p->top_p);
    get_f32(c, &p->min_p);
    get_f32(c, &p->repetition_penalty);
    get_f32(c, &p->presence_penalty);
    get_f32(c, &p->frequency_penalty);
    get_bool(c, &p->want_logprobs);
    get_u32(c, &p->top_logprobs);
    get_bool(c, &p->ignore_eos);
    get_bool(c, &p->add_special);
    get_bool(c, &p->echo);
    get_bool(c, &p->include_stop);
    get_bool(c, &p->show_special);
}

static void put_ids(struct buf *out, const int32_t *ids, uint32_t n)
{
    put_u32(out, n);
    buf_append(out, ids, (size_t)n * sizeof(*ids));
}

int msg_generate_encode(struct buf *out, uint64_t request_id, const struct gen_request *r,
                        struct err *err)
{
    put_u64(out, request_id);
    put_u8(out, (uint8_t)r->input);
    put_str(out, r->text);
    put_ids(out, r->tokens, r->n_tokens);
    put_str(out, r->messages_json);
    put_str(out, r->tools_json);
    put_str(out, r->kwargs_json);
    put_params(out, &r->params);
    put_u64(out, r->cache_salt);
    put_u32(out, r->n_stops);
    for (uint32_t i = 0; i < r->n_stops; i++)
        put_str(out, r->stops[i]);
    put_ids(out, r->stop_tokens, r->n_stop_tokens);
    put_u32(out, r->n_logit_bias);
    for (uint32_t i = 0; i < r->n_logit_bias; i++) {
        put_u32(out, (uint32_t)r->logit_bias[i].token);
        put_f32(out, r->logit_bias[i].bias);
    }
    return buf_status(out, "message GENERATE", err);
}

/* The four below read one field into arena memory; false with c->bad (malformed) or err->code (no
 * memory) set. */
static bool take_str(struct cursor *c, struct arena *a, struct str *ret, struct err *err)
{
    struct str s;
    if (!get_str(c, LIMIT_MSG_BYTES, &s))
        return false;
    ret->p = arena_try_dup(a, s.p, s.len, err);
    ret->len = s.len;
    return ret->p;
}

static bool take_ids(struct cursor *c, struct arena *a, uint32_t max, const int32_t **ret,
                     uint32_t *ret_n, struct err *err)
{
    if (!get_count(c, max, sizeof(**ret), ret_n))
        return false;
    size_t bytes = (size_t)*ret_n * sizeof(**ret);
    int32_t *ids = arena_try_alloc(a, bytes, err);
    if (!ids)
        return false;
    if (bytes)
        memcpy(ids, c->p, bytes);
    c->p += bytes;
    c->left -= bytes;
    *ret = ids;
    return true;
}

static bool take_stops(struct cursor *c, struct gen_request *r, struct err *err)
{
    if (!get_count(c, LIMIT_REQUEST_STOPS, sizeof(uint32_t), &r->n_stops))
        return false;
    struct str *stops = array_of(&r->arena, r->n_stops, sizeof(*stops), err);
    if (!stops)
        return false;
    r->stops = stops;
    for (uint32_t i = 0; i < r->n_stops; i++) {
        if (!take_str(c, &r->arena, &stops[i], err))
            return false;
    }
    return true;
}

static bool take_bias(struct cursor *c, struct gen_request *r, struct err *err)
{
    if (!get_count(c, LIMIT_REQUEST_LOGIT_BIAS, 8, &r->n_logit_bias))
        return false;
    struct gen_logit_bias *bias = array_of(&r->arena, r->n_logit_bias, sizeof(*bias), err);
    if (!bias)
        return false;
    r->logit_bias = bias;
    for (uint32_t i = 0; i < r->n_logit_bias; i++) {
        get_i32(c, &bias[i].token);
        get_f32(c, &bias[i].bias);
    }
    return !c->bad;
}

static bool take_request(struct cursor *c, struct gen_request *r, struct err *err)
{
    uint8_t input;
    if (!get_u8(c, &input) || input > GEN_INPUT_CHAT) {
        c->bad = true;
        return false;
    }
    r->input = (enum gen_input)input;
    if (!take_str(c, &r->arena, &r->text, err) ||
        !take_ids(c, &r->arena, LIMIT_MODEL_CONTEXT, &r->tokens, &r->n_tokens, err) ||
        !take_str(c, &r->arena, &r->messages_json, err) ||
        !take_str(c, &r->arena, &r->tools_json, err) ||
        !take_str(c, &r->arena, &r->kwargs_json, err))
        return false;
    get_params(c, &r->params);
    get_u64(c, &r->cache_salt);
    return !c->bad && take_stops(c, r, err) &&
           take_ids(c, &r->arena, LIMIT_REQUEST_STOPS, &r->stop_tokens, &r->n_stop_tokens, err) &&
           take_bias(c, r, err);
}

int msg_generate_decode(struct str payload, uint64_t *ret_id, struct gen_request *ret,
                        struct err *err)
{
    struct cursor c = cursor_on(payload);
    gen_request_init(ret);
    /* The lists' views of strings come on top of the payload's own bytes. */
    arena_init(&ret->arena, 2 * payload.len + MSG_TEXT_BYTES);
    struct err why = ERR_INIT;
    int rc = 0;
    if (get_u64(&c, ret_id) && !take_request(&c, ret, &why) && why.code) {
        *err = why;
        rc = err_wrap(err, "message GENERATE");
    }
    if (rc == 0)
        rc = cursor_end(&c, "GENERATE", err);
    if (rc < 0)
        gen_request_release(ret);
    return rc;
}

/* --- EVENT
 * -----------------------------------------------------------------------------------------------------
 */

static void put_tokens(struct buf *out, const struct gen_event *e)
{
    uint32_t n_listed = e->tokens ? e->n_tokens : 0;
    put_u32(out, e->n_tokens);
    put_u32(out, n_listed);
    for (uint32_t i = 0; i < n_listed; i++) {
        const struct gen_token *t = &e->tokens[i];
        put_u32(out, (uint32_t)t->token);
        put_f32(out, t->logprob);
        put_str(out, t->bytes);
        put_u32(out, t->n_top);
        for (uint32_t k = 0; k < t->n_top; k++) {
            put_u32(out, (uint32_t)t->top[k].token);
            put_f32(out, t->top[k].logprob);
            put_str(out, t->top[k].bytes);
        }
    }
}

int msg_event_encode(struct buf *out, const struct gen_event *e, struct err *err)
{
    put_u64(out, e->request_id);
    put_u8(out, (uint8_t)e->type);
    switch (e->type) {
    case GEN_EVENT_STARTED:
        put_u32(out, e->n_prompt);
        put_u32(out, e->n_cached);
        break;
    case GEN_EVENT_DELTA:
        put_u32(out, e->choice);
        put_str(out, e->text);
        put_tokens(out, e);
        break;
    case GEN_EVENT_CHOICE_DONE:
        put_u32(out, e->choice);
        put_u8(out, (uint8_t)e->finish);
        put_u32(out, (uint32_t)e->stop_index);
        put_u32(out, e->n_generated);
        break;
    case GEN_EVENT_DONE:
        put_u8(out, (uint8_t)e->finish);
        put_u32(out, e->n_prompt);
        put_u32(out, e->n_cached);
        put_u32(out, e->n_generated);
        put_f64(out, e->queue_ms);
        put_f64(out, e->prefill_ms);
        put_f64(out, e->decode_ms);
        break;
    case GEN_EVENT_FAILED:
        put_u32(out, (uint32_t)e->code);
        put_str(out, e->message);
        break;
    case GEN_EVENT_PROGRESS: BUG_ON(true);
    }
    return buf_status(out, "message EVENT", err);
}

static bool get_finish(struct cursor *c, enum gen_finish *ret)
{
    uint8_t v;
    if (!get_u8(c, &v))
        return false;
    c->bad = v > GEN_FINISH_ERROR;
    *ret = (enum gen_finish)v;
    return !c->bad;
}

/* A logarithm of a probability; -infinity is one. */
static bool get_logprob(struct cursor *c, float *ret)
{
    if (!get_f32(c, ret))
        return false;
    c->bad = isnan(*ret);
    return !c->bad;
}

static bool get_ms(struct cursor *c, double *ret)
{
    if (!get_f64(c, ret))
        return false;
    c->bad = !(isfinite(*ret) && *ret >= 0);
    return !c->bad;
}

static bool get_token(struct cursor *c, struct arena *a, struct gen_token *t, struct err *err)
{
    if (!get_i32(c, &t->token) || !get_logprob(c, &t->logprob) ||
        !get_str(c, LIMIT_TOKEN_BYTES, &t->bytes) ||
        !get_count(c, LIMIT_REQUEST_TOP_LOGPROBS, 12, &t->n_top))
        return false;
    struct gen_top *top = array_of(a, t->n_top, sizeof(*top), err);
    if (!top)
        return false;
    t->top = top;
    for (uint32_t k = 0; k < t->n_top; k++) {
        get_i32(c, &top[k].token);
        get_logprob(c, &top[k].logprob);
        get_str(c, LIMIT_TOKEN_BYTES, &top[k].bytes);
    }
    return !c->bad;
}

static bool get_delta(struct cursor *c, struct arena *a, struct gen_event *e, struct err *err)
{
    uint32_t n_listed;
    if (!get_u32(c, &e->choice) || !get_str(c, LIMIT_MSG_SMALL_BYTES, &e->text) ||
        !get_u32(c, &e->n_tokens) || !get_count(c, e->n_tokens, 16, &n_listed))
        return false;
    c->bad = e->n_tokens > LIMIT_MODEL_CONTEXT || (n_listed != 0 && n_listed != e->n_tokens) ||
             !gen_text_is_utf8(e->text);
    if (c->bad)
        return false;
    if (n_listed == 0)
        return true;
    struct gen_token *tokens = array_of(a, n_listed, sizeof(*tokens), err);
    if (!tokens)
        return false;
    e->tokens = tokens;
    for (uint32_t i = 0; i < n_listed; i++) {
        if (!get_token(c, a, &tokens[i], err))
            return false;
    }
    return true;
}

static void get_done(struct cursor *c, struct gen_event *e)
{
    get_finish(c, &e->finish);
    get_u32(c, &e->n_prompt);
    get_u32(c, &e->n_cached);
    get_u32(c, &e->n_generated);
    get_ms(c, &e->queue_ms);
    get_ms(c, &e->prefill_ms);
    get_ms(c, &e->decode_ms);
}

static void get_failed(struct cursor *c, struct gen_event *e)
{
    uint32_t code = 0;
    get_u32(c, &code);
    get_str(c, ERR_MSG_MAX, &e->message);
    c->bad = c->bad || code == E_OK || code >= E_N_CODES || !gen_text_is_utf8(e->message);
    e->code = (int)code;
}

int msg_event_decode(struct str payload, struct arena *a, struct gen_event *ret, struct err *err)
{
    struct cursor c = cursor_on(payload);
    struct err why = ERR_INIT;
    uint8_t type = UINT8_MAX;
    *ret = (struct gen_event){.stop_index = -1};
    get_u64(&c, &ret->request_id);
    get_u8(&c, &type);
    ret->type = (enum gen_event_type)type;
    switch (type) {
    case GEN_EVENT_STARTED:
        get_u32(&c, &ret->n_prompt);
        get_u32(&c, &ret->n_cached);
        break;
    case GEN_EVENT_DELTA: get_delta(&c, a, ret, &why); break;
    case GEN_EVENT_CHOICE_DONE:
        get_u32(&c, &ret->choice);
        get_finish(&c, &ret->finish);
        get_i32(&c, &ret->stop_index);
        get_u32(&c, &ret->n_generated);
        break;
    case GEN_EVENT_DONE: get_done(&c, ret); break;
    case GEN_EVENT_FAILED: get_failed(&c, ret); break;
    default: c.bad = true;
    }
    if (why.code) {
        *err = why;
        return err_wrap(err, "message EVENT");
    }
    return cursor_end(&c, "EVENT", err);
}
