/* SPDX-License-Identifier: Apache-2.0 */
/* Implements text_log.h. */
#include "daemon/api/openai/text_log.h"

#include "daemon/watch/watch.h"
#include "lib/base/mem.h"

#define ANSWER_MAX_BYTES (64u << 10) /* more than watch_text shows */

static void tell_ids(struct text_log *t, const int32_t *ids, uint32_t n)
{
    struct buf text;
    buf_init(&text, ANSWER_MAX_BYTES);
    for (uint32_t i = 0; i < n && !text.failed; i++)
        buf_printf(&text, "%s%d", i ? " " : "tokens: ", ids[i]);
    watch_text(t->call->api->cfg.watch, t->call->request_id, "prompt",
               (struct str){text.data, text.len});
    buf_release(&text);
}

void text_log_begin(struct text_log *t, struct api_call *call, const struct api_body *b)
{
    struct watch *w = call->api->cfg.watch;
    struct err err = ERR_INIT;
    *t = (struct text_log){.call = NULL};
    if (!w || !watch_wants_text(w))
        return;
    t->call = call;
    if (b->req.input == GEN_INPUT_CHAT)
        watch_text(w, call->request_id, "prompt", b->req.messages_json);
    for (uint32_t i = 0; b->req.input != GEN_INPUT_CHAT && i < b->n_prompts; i++) {
        if (b->prompts[i].input == GEN_INPUT_TOKENS)
            tell_ids(t, b->prompts[i].tokens, b->prompts[i].n_tokens);
        else
            watch_text(w, call->request_id, "prompt", b->prompts[i].text);
    }
    t->answers = mem_try_alloc((size_t)b->n_prompts * b->req.params.n, sizeof(*t->answers), &err);
    t->n = t->answers ? b->n_prompts * b->req.params.n : 0;
    for (uint32_t i = 0; i < t->n; i++)
        buf_init(&t->answers[i], ANSWER_MAX_BYTES);
}

void text_log_delta(struct text_log *t, uint32_t choice, struct str text)
{
    if (choice < t->n && !t->answers[choice].failed)
        buf_append(&t->answers[choice], text.p, text.len);
}

void text_log_end(struct text_log *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct buf *b = &t->answers[i];
        watch_text(t->call->api->cfg.watch, t->call->request_id, "answer",
                   (struct str){b->data, b->len});
        buf_release(b);
    }
    mem_free(t->answers);
    *t = (struct text_log){.call = NULL};
}
