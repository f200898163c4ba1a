/* SPDX-License-Identifier: Apache-2.0 */
/* Implements info.h. */
#include "daemon/api/info.h"

#include <stdio.h>
#include <string.h>

#include "daemon/api/openai/body.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"

const char *info_state_name(enum model_state state)
{
    static const char *const names[] = {[MODEL_IDLE] = "idle",
                                        [MODEL_LOADING] = "loading",
                                        [MODEL_READY] = "ready",
                                        [MODEL_FAILED] = "failed",
                                        [MODEL_BROKEN] = "broken"};
    return names[state];
}

static const struct model_info *find(struct api *a, const struct model_list *l, const char *name,
                                     bool partial)
{
    char full[LIMIT_MODEL_NAME_BYTES + 1];
    struct err err = ERR_INIT;
    if (runner_resolve(a->cfg.runner, name, partial, full, &err) < 0)
        return NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i].name, full) == 0)
            return &l->items[i];
    }
    return NULL;
}

const struct model_info *info_find(struct api *a, const struct model_list *l, const char *name)
{
    return find(a, l, name, false);
}

const struct model_info *info_find_part(struct api *a, const struct model_list *l, const char *name)
{
    return find(a, l, name, true);
}

int info_not_found(struct api *a, const char *name, struct err *err)
{
    struct model_settings s;
    int rc = runner_settings_get(a->cfg.runner, name, &s, err);
    if (rc == 0) { /* it has come meanwhile */
        model_settings_release(&s);
        rc = err_set(err, E_NOTFOUND, "no model is called '%.200s'", name);
    }
    return rc;
}

uint32_t info_retry_in(struct api *a, const char *name)
{
    struct model_list l;
    struct err err = ERR_INIT;
    if (runner_list(a->cfg.runner, &l, &err) < 0)
        return 0;
    const struct model_info *m = info_find(a, &l, name);
    uint32_t s = m && m->state == MODEL_BROKEN ? MAX_OF(m->retry_in_s, 1u) : 0;
    model_list_release(&l);
    return s;
}

bool info_list(struct api *a, struct httpd_request *r, struct model_list *ret)
{
    struct err err = ERR_INIT;
    if (runner_list(a->cfg.runner, ret, &err) == 0)
        return true;
    api_answer_err(r, &err);
    return false;
}

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    json_put_str(out, str_from(text));
}

static void put_number(struct buf *out, const char *name, uint64_t v)
{
    buf_printf(out, ",\"%s\":%llu", name, (unsigned long long)v);
}

/* Docker Model Runner's part: what the artifact says. */
static void put_dmr(const struct model_info *m, struct buf *out)
{
    const struct {
        const char *name, *text;
    } texts[] = {{"architecture", m->facts.arch},
                 {"parameters", m->facts.parameters},
                 {"quantization", m->facts.quant},
                 {"size", m->facts.size}};
    buf_append_str(out, ",\"dmr\":{");
    size_t begin = out->len;
    if (m->facts.context_size)
        buf_printf(out, "\"context_window\":%u", m->facts.context_size);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i].text[0])
            continue;
        buf_printf(out, "%s\"%s\":", out->len > begin ? "," : "", texts[i].name);
        json_put_str(out, str_from(texts[i].text));
    }
    buf_append_char(out, '}');
}

/* Beyond OpenAI's fields: max_model_len is vLLM's, meta llama.cpp's, the rest is ours. */
void info_put_openai(const struct model_info *m, struct buf *out)
{
    buf_append_str(out, "{\"id\":");
    json_put_str(out, str_from(m->name));
    buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"berth\"",
               (long long)m->modified_unix);
    put_text(out, "state", info_state_name(m->state));
    if (m->digest[0])
        put_text(out, "digest", m->digest);
    if (m->is_stored)
        put_dmr(m, out);
    if (m->state == MODEL_READY) {
        put_number(out, "max_model_len", m->n_ctx);
        put_text(out, "architecture", m->arch);
        put_text(out, "quantization", m->quant);
        buf_printf(out, ",\"meta\":{\"n_ctx\":%u,\"n_params\":%llu,\"size\":%llu", m->n_ctx,
                   (unsigned long long)m->n_params, (unsigned long long)m->file_bytes);
        put_text(out, "architecture", m->arch);
        put_text(out, "quantization", m->quant);
        buf_append_char(out, '}');
    }
    buf_append_char(out, '}');
}

static void put_running(const struct model_info *m, struct buf *out)
{
    buf_printf(out, ",\"pid\":%d,\"n_ctx\":%u,\"n_running\":%u,\"n_waiting\":%u", m->pid, m->n_ctx,
               m->n_running, m->n_waiting);
    put_number(out, "weight_bytes", m->weight_bytes);
    put_number(out, "kv_bytes", m->kv_bytes);
    put_number(out, "scratch_bytes", m->scratch_bytes);
    put_number(out, "planned_bytes", m->weight_bytes + m->kv_bytes + m->scratch_bytes);
    put_number(out, "n_params", m->n_params);
    put_number(out, "blocks_used", m->blocks_used);
    put_number(out, "blocks_total", m->blocks_total);
    put_number(out, "n_preemptions", m->n_preemptions);
    put_number(out, "n_drafted", m->n_drafted);
    put_number(out, "n_accepted", m->n_accepted);
    put_text(out, "prepared", m->prepared);
    put_number(out, "prepared_bytes", m->prepared_bytes);
    if (m->draft_model) {
        put_text(out, "draft_model", m->draft_model);
        put_number(out, "draft_weight_bytes", m->draft_weight_bytes);
        put_text(out, "draft_prepared", m->draft_prepared);
        put_number(out, "draft_prepared_bytes", m->draft_prepared_bytes);
    }
    if (m->draft_refusal)
        put_text(out, "draft_refusal", m->draft_refusal);
    buf_printf(out, ",\"has_chat_template\":%s", m->has_chat_template ? "true" : "false");
    put_text(out, "arch", m->arch);
    put_text(out, "quant", m->quant);
    buf_printf(out, ",\"loaded_unix\":%lld,\"expires_in_s\":", (long long)m->loaded_unix);
    if (m->expires_in_s == RUN_FOREVER)
        buf_append_str(out, "-1");
    else
        buf_printf(out, "%llu", (unsigned long long)m->expires_in_s);
}

/* What was declared, and what a request that says nothing gets. */
static void put_settings(const struct model_info *m, struct buf *out)
{
    struct gen_params p;
    json_t *declared = model_settings_json(&m->settings);
    buf_append_str(out, ",\"settings\":");
    json_put_value(out, declared);
    json_decref(declared);
    gen_params_init(&p);
    api_params_default(&p, &m->settings);
    buf_append_str(out, ",\"request_defaults\":");
    api_params_put(&p, out);
}

void info_put(const struct model_info *m, struct buf *out)
{
    buf_append_str(out, "{\"name\":");
    json_put_str(out, str_from(m->name));
    put_text(out, "path", m->path);
    put_text(out, "source", m->is_stored ? "store" : "file");
    put_text(out, "state", info_state_name(m->state));
    put_text(out, "digest", m->digest);
    if (m->is_stored) {
        put_text(out, "id", m->digest);
        put_text(out, "format", m->facts.format);
        put_text(out, "parameters", m->facts.parameters);
        put_number(out, "context_size", m->facts.context_size);
        if (m->state != MODEL_READY) { /* else the worker says */
            put_text(out, "arch", m->facts.arch);
            put_text(out, "quant", m->facts.quant);
        }
    }
    if (m->is_moved)
        buf_append_str(out, ",\"moved\":true");
    put_number(out, "file_bytes", m->file_bytes);
    buf_printf(out, ",\"modified_unix\":%lld,\"last_used_unix\":%lld", (long long)m->modified_unix,
               (long long)m->last_used_unix);
    put_number(out, "n_requests", m->n_requests);
    put_number(out, "n_prompt_tokens", m->n_prompt_tokens);
    put_number(out, "n_cached_tokens", m->n_cached_tokens);
    put_number(out, "n_generated_tokens", m->n_generated_tokens);
    put_number(out, "n_loads", m->n_loads);
    put_number(out, "n_crashes", m->n_crashes);
    if (m->state == MODEL_READY)
        put_running(m, out);
    if (m->failure[0])
        put_text(out, "failure", m->failure);
    if (m->state == MODEL_BROKEN)
        put_number(out, "retry_in_s", m->retry_in_s);
    put_settings(m, out);
    buf_append_char(out, '}');
}

char *info_only_model(struct api *a, struct err *err)
{
    struct model_list l;
    const struct model_info *loaded = NULL;
    size_t n_loaded = 0;
    char *name = NULL;
    if (runner_list(a->cfg.runner, &l, err) < 0)
        return NULL;
    for (size_t i = 0; i < l.n; i++) {
        if (l.items[i].state == MODEL_READY || l.items[i].state == MODEL_LOADING) {
            n_loaded++;
            loaded = &l.items[i];
        }
    }
    if (n_loaded == 0 && l.n == 1)
        loaded = &l.items[0];
    if (loaded && n_loaded <= 1)
        name = mem_dup(loaded->name, strlen(loaded->name));
    else
        err_set(err, E_INVALID,
                "'model' is missing, and which of %zu %s is meant cannot be known: name one of the "
                "models in GET /v1/models",
                n_loaded ? n_loaded : l.n, n_loaded ? "loaded models" : "models");
    model_list_release(&l);
    return name;
}

void info_answer(struct api *a, struct httpd_request *r, const char *name,
                 void (*put)(const struct model_info *m, struct buf *out))
{
    struct model_list list;
    struct err err = ERR_INIT;
    if (!info_list(a, r, &list))
        return;
    const struct model_info *m = info_find_part(a, &list, name);
    if (m) {
        struct buf out;
        buf_init(&out, INFO_LIST_MAX_BYTES);
        put(m, &out);
        api_answer_json(r, 200, &out);
    } else {
        info_not_found(a, name, &err);
        api_answer_err(r, &err);
    }
    model_list_release(&list);
}
