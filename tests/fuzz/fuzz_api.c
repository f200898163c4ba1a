/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of completions and chat completions: any bytes to a checked request or an error that is
 * JSON.  The first byte chooses the route; an accepted request must pass its own check, its JSON
 * texts must parse again. */
#include <stdint.h>

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
    shape_whole(&s, &(struct shape_usage){1, 0, 1}, &out);
    BUG_ON(buf_status(&out, "answer", &err) < 0);
    check_json((struct str){out.data, out.len});
    buf_release(&out);
    shape_release(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_body b;
    struct api_error e;
    struct err err = ERR_INIT;
    if (size == 0)
        return 0;
    struct str text = {(const char *)data + 1, size - 1};
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
