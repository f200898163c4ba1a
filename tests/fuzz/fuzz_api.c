/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of completions, chat completions and of what declares settings of models: any bytes to a
 * checked request or an error that is JSON.  The first byte chooses the route; an accepted request
 * must pass its own check, its JSON texts must parse again; accepted settings, told as the API
 * tells them, must be accepted again and be the same. */
#include <stdint.h>

#include "daemon/api/manage.h"
#include "daemon/api/openai/body.h"
#include "daemon/api/openai/shape.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(struct str text)
{
    json_t *v = NULL;
    struct err err = ERR_INIT;
    if (text.len == 0)
        return;
    int rc = json_parse(text, &v, &err);
    BUG_ON(rc < 0 &&
           err.code != E_LIMIT); /* arguments made objects may nest deeper than one text may */
    json_decref(v);
}

static void check_error(const struct api_error *e)
{
    struct buf out;
    struct err err = ERR_INIT;
    buf_init(&out, 16 * ERR_MSG_MAX);
    BUG_ON(e->status < 400 || e->status > 599 || !e->msg[0]);
    api_error_put(&out, e);
    BUG_ON(buf_status(&out, "error", &err) < 0);
    check_json((struct str){out.data, out.len});
    buf_release(&out);
}

/* A whole answer to it, made of the fuzzer's own bytes, is JSON whatever they are. */
static void check_shape(const struct api_body *b, struct str bytes)
{
    struct shape s;
    struct err err = ERR_INIT;
    struct buf out;
    const struct gen_top top = {3, -1, bytes};
    const struct gen_token token = {3, -1, bytes, &top, 1};
    struct gen_event ev = {.type = GEN_EVENT_DELTA, .text = bytes, .tokens = &token, .n_tokens = 1};
    BUG_ON(shape_init(&s, b, "cmpl-0", 0, &err) < 0);
    buf_init(&out, LIMIT_ANSWER_BYTES);
    shape_collect(&s, 0, &ev);
    shape_whole(&s, &(struct shape_usage){.n_prompt = 1, .n_generated = 1}, &out);
    BUG_ON(buf_status(&out, "answer", &err) < 0);
    check_json((struct str){out.data, out.len});
    buf_release(&out);
    shape_release(&s);
}

static void check_said(const struct err *err)
{
    struct api_error e;
    BUG_ON(!err->code || !err->msg[0]);
    api_error_from(&e, err);
    check_error(&e);
}

/* The round that settings take through the state folder. */
static void check_settings(const struct model_settings *s)
{
    struct model_settings again;
    struct err err = ERR_INIT;
    json_t *told = model_settings_json(s), *retold;
    model_settings_init(&again);
    BUG_ON(model_settings_apply(&again, told, &err) < 0);
    retold = model_settings_json(&again);
    BUG_ON(!json_equal(told, retold) || model_settings_hash(s) != model_settings_hash(&again) ||
           model_settings_reload(s, &again));
    json_decref(told);
    json_decref(retold);
    model_settings_release(&again);
}

/* The body of /berth/v1/configure, or of Docker Model Runner's /engines/_configure. */
static void fuzz_configure(bool is_dmr, struct str text)
{
    static const char *const own[] = {"model", "settings", "replace", "when_idle", NULL};
    struct model_settings s;
    struct err err = ERR_INIT;
    json_t *root = NULL, *settings = json_object();
    model_settings_init(&s);
    int rc = json_parse(text, &root, &err);
    if (rc == 0 && json_is_object(root)) {
        rc = is_dmr ? dmr_read_configure(root, settings, &err) : 0;
        if (rc == 0)
            rc = is_dmr ? model_settings_apply(&s, settings, &err)
                        : manage_apply(&s, root, own, &err);
        if (rc == 0)
            check_settings(&s);
    }
    if (rc < 0)
        check_said(&err);
    model_settings_release(&s);
    json_decref(settings);
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_body b;
    struct api_error e;
    struct err err = ERR_INIT;
    if (size == 0)
        return 0;
    struct str text = {(const char *)data + 1, size - 1};
    if (data[0] & 2) {
        fuzz_configure(data[0] & 1, text);
        return 0;
    }
    if (api_body_parse(&b, data[0] & 1 ? API_CHAT : API_COMPLETION, text, NULL, NULL, &e) < 0) {
        check_error(&e);
        return 0;
    }
    BUG_ON(gen_request_check(&b.req, &err) < 0);
    BUG_ON(!b.model || !b.req.params.has_seed);
    check_json(b.req.messages_json);
    check_json(b.req.tools_json);
    check_json(b.req.kwargs_json);
    check_shape(&b, text);
    api_body_release(&b);
    return 0;
}
