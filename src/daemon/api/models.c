/* SPDX-License-Identifier: Apache-2.0 */
/* What is there: version, OpenAI's model list, Docker Model Runner's list of running
 * models. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/api/api_impl.h"
#include "lib/codec/json.h"

#define LIST_MAX_BYTES (64u << 20)

void handle_root(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)a;
    (void)rest;
    httpd_answer(r, 200, "text/plain; charset=utf-8", STR_LIT("berth is running\n"));
}

void handle_version(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)a;
    (void)rest;
    httpd_answer(r, 200, API_JSON, STR_LIT("{\"version\":\"" BERTH_VERSION "\"}"));
}

static bool list_or_answer(struct api *a, struct httpd_request *r, struct model_list *list)
{
    struct err err = ERR_INIT;
    if (runner_list(a->cfg.runner, list, &err) == 0)
        return true;
    struct api_error e;
    api_error_from(&e, &err);
    api_error_answer(r, &e);
    return false;
}

/* OpenAI's fields, and in "meta" what llama.cpp's server says there, once it is known. */
static void put_model(const struct model_info *m, struct buf *out)
{
    buf_append_str(out, "{\"id\":");
    json_put_str(out, str_from(m->name));
    buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"berth\"",
               (long long)m->modified_unix);
    if (m->state == MODEL_READY) {
        buf_printf(out,
                   ",\"max_model_len\":%u,\"meta\":{\"n_ctx\":%u,\"n_params\":%llu,\"size\":%llu,"
                   "\"architecture\":",
                   m->n_ctx, m->n_ctx, (unsigned long long)m->n_params,
                   (unsigned long long)m->file_bytes);
        json_put_str(out, str_from(m->arch));
        buf_append_str(out, ",\"quantization\":");
        json_put_str(out, str_from(m->quant));
        buf_append_char(out, '}');
    }
    buf_append_char(out, '}');
}

void handle_models(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    if (!list_or_answer(a, r, &list))
        return;
    struct buf out;
    buf_init(&out, LIST_MAX_BYTES);
    buf_append_str(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < list.n; i++) {
        if (i)
            buf_append_char(&out, ',');
        put_model(&list.items[i], &out);
    }
    buf_append_str(&out, "]}");
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}

void handle_model(struct api *a, struct httpd_request *r, const char *rest)
{
    struct model_list list;
    if (!list_or_answer(a, r, &list))
        return;
    struct buf out;
    buf_init(&out, LIST_MAX_BYTES);
    for (size_t i = 0; i < list.n; i++) {
        if (strcmp(list.items[i].name, rest) == 0)
            put_model(&list.items[i], &out);
    }
    model_list_release(&list);
    if (out.len > 0) {
        api_answer_json(r, 200, &out);
        return;
    }
    struct err err = ERR_INIT;
    struct api_error e;
    err_set(&err, E_NOTFOUND, "there is no model '%.200s': GET /v1/models lists those there are",
            rest);
    api_error_from(&e, &err);
    api_error_answer(r, &e);
    buf_release(&out);
}

void handle_engines_ps(struct api *a, struct httpd_request *r, const char *rest)
{
    (void)rest;
    struct model_list list;
    if (!list_or_answer(a, r, &list))
        return;
    struct buf out;
    const char *sep = "";
    buf_init(&out, LIST_MAX_BYTES);
    buf_append_char(&out, '[');
    for (size_t i = 0; i < list.n; i++) {
        const struct model_info *m = &list.items[i];
        if (m->state != MODEL_READY && m->state != MODEL_LOADING)
            continue;
        bool in_use = m->n_running || m->n_waiting || m->state == MODEL_LOADING;
        char stamp[32] =
            "0001-01-01T00:00:00Z"; /* Go's zero time, which its clients take for "now in use" */
        struct tm tm;
        time_t loaded = (time_t)m->loaded_unix;
        if (!in_use && gmtime_r(&loaded, &tm))
            strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
        buf_append_str(&out, sep);
        buf_append_str(&out, "{\"backend_name\":\"llama.cpp\",\"model_name\":");
        json_put_str(&out, str_from(m->name));
        buf_printf(&out, ",\"mode\":\"completion\",\"last_used\":\"%s\"%s%s}", stamp,
                   m->n_running || m->n_waiting ? ",\"in_use\":true" : "",
                   m->state == MODEL_LOADING ? ",\"loading\":true" : "");
        sep = ",";
    }
    buf_append_char(&out, ']');
    model_list_release(&list);
    api_answer_json(r, 200, &out);
}
