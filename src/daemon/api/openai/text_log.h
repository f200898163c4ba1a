/* SPDX-License-Identifier: Apache-2.0 */
/* What --log-prompts asks for: the prompts and answers of one request, to the log file.  Does and
 * holds nothing while nobody asked.  One thread at a time. */
#ifndef DAEMON_API_OPENAI_TEXT_LOG_H
#define DAEMON_API_OPENAI_TEXT_LOG_H

#include "daemon/api/api_impl.h"
#include "daemon/api/openai/body.h"

struct text_log {
    struct api_call *call; /* NULL: nobody asked */
    struct buf *answers;   /* owned, [n] */
    uint32_t n;            /* choices of all prompts */
};

/* Tells b's prompts. */
void text_log_begin(struct text_log *t, struct api_call *call, const struct api_body *b);
/* Keeps what is to be told of a choice; choice < n. */
void text_log_delta(struct text_log *t, uint32_t choice, struct str text);
/* Tells the answers; frees. */
void text_log_end(struct text_log *t);

#endif
