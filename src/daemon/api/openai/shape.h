/* SPDX-License-Identifier: Apache-2.0 */
/* Answers in OpenAI's shapes, whole and as chunks: neutral text and tokens to JSON.  No I/O; one
 * thread at a time. */
#ifndef DAEMON_API_OPENAI_SHAPE_H
#define DAEMON_API_OPENAI_SHAPE_H

#include "daemon/api/openai/body.h"

struct shape_choice {   /* one answer as it grows; owns its buffers */
    struct buf text;    /* whole answers only */
    struct buf content; /* chat: items of logprobs.content */
    struct buf tokens, token_logprobs, top_logprobs,
        text_offset;  /* completions: items of these arrays */
    uint64_t n_chars; /* of text so far, for text_offset */
    enum gen_finish finish;
};

struct shape_usage { /* summed up over the prompts, but for the times: the slowest one's */
    uint32_t n_prompt, n_cached, n_generated;
    double prefill_ms, decode_ms;
};

struct shape {
    enum api_dialect dialect;
    bool include_usage; /* streams: every chunk has a usage field */
    bool want_timings;
    bool want_logprobs;
    uint32_t top_logprobs;
    uint32_t n;                   /* choices of all prompts */
    struct shape_choice *choices; /* owned, [n] */
    char id[48], fingerprint[64];
    int64_t created;
    struct buf model; /* its name as JSON */
    struct buf head;  /* of chunks, "data: {"id":… up to "choices":["; empty until shape_begin */
};

/* n > 0 from a checked request, times its prompts.  id: "chatcmpl-…" or "cmpl-…". */
int shape_init(struct shape *s, const struct api_body *b, const char *id, int64_t created,
               struct err *err) MUST_USE;
/* What answers is known: before anything is written; later calls change nothing. */
void shape_begin(struct shape *s, const char *fingerprint);
void shape_release(struct shape *s);

/* Chunks, each a whole SSE frame appended to out. */
void shape_chunk_role(struct shape *s, uint32_t choice, struct buf *out);
void shape_chunk_delta(struct shape *s, uint32_t choice, const struct gen_event *ev,
                       struct buf *out);
void shape_chunk_finish(struct shape *s, uint32_t choice, enum gen_finish finish, struct buf *out);
void shape_chunk_usage(struct shape *s, const struct shape_usage *u, struct buf *out);

/* A whole answer: collects deltas, then writes.  Failures show in the bufs. */
void shape_collect(struct shape *s, uint32_t choice, const struct gen_event *ev);
int shape_status(const struct shape *s, struct err *err) MUST_USE;
void shape_whole(struct shape *s, const struct shape_usage *u, struct buf *out);

#endif
