/* SPDX-License-Identifier: Apache-2.0 */
/* Chat: a conversation to token ids through the model's chat template.
 *
 * The template's own text may spell control tokens; nothing a message, tool, document or keyword
 * argument says ever can. (The one exception is the value of a message's "role" when it is one of
 * the API's own words, such as "user": some templates build a control token around it.)
 *
 * The variables are those of transformers: messages, tools (null when absent), documents (null
 * unless in kwargs), add_generation_prompt, bos_token and eos_token, unk_token and pad_token where
 * the model has them, and kwargs (scalars, and documents).  Content given as a list of parts is
 * handed over as it is when the template shows the text of such a list; otherwise text parts are
 * joined by newlines, and a part of another kind is refused.  Tool call arguments given as a string
 * of JSON become an object when the template works only with one (chat_shape.h tells how that is
 * found out). */
#ifndef WORKER_TEXT_CHAT_H
#define WORKER_TEXT_CHAT_H

#include <jansson.h>

#include "worker/text/jinja.h"
#include "worker/text/tokenizer.h"

struct chat_template;

/* From a GGUF's tokenizer.chat_template (and .tool_use variant), or from override when its len > 0.
 * *ret = NULL and 0 when the model has none. */
int chat_template_from_gguf(const struct gguf *g, struct str override, struct chat_template **ret,
                            struct err *err) MUST_USE;
void chat_template_free(struct chat_template *c);

struct chat_request {
    const json_t *messages; /* array; borrowed */
    const json_t *tools;    /* array or NULL */
    const json_t *
        kwargs; /* object of extra variables or NULL; may not name a reserved variable: E_INVALID */
    bool add_generation_prompt;
    int64_t now_unix;
};

/* Renders req and appends its token ids.  rendered (may be NULL) receives the text. */
int chat_encode(const struct chat_template *c, const struct tokenizer *t,
                const struct chat_request *req, struct token_vec *out, struct buf *rendered,
                struct err *err) MUST_USE;

#endif
