/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by body.c and body_read*.c only: what one parse carries from row to row. */
#ifndef DAEMON_API_OPENAI_BODY_IMPL_H
#define DAEMON_API_OPENAI_BODY_IMPL_H

#include "daemon/api/openai/body.h"

struct reader {
    struct api_body *b;
    struct api_error *e;
    const char *max_tokens_from, *repetition_from,
        *n_from;     /* which of several names gave the value */
    bool hide_tools; /* tool_choice "none" */
};

/* Reads one parameter, never null, into r->b; 0, or negative with r->e filled.  name: as the client
 * wrote it. */
typedef int (*read_fn)(struct reader *r, const char *name, const json_t *v);

int read_model(struct reader *r, const char *name, const json_t *v);
int read_prompt(struct reader *r, const char *name, const json_t *v);
int read_messages(struct reader *r, const char *name, const json_t *v);
int read_tools(struct reader *r, const char *name, const json_t *v);
int read_tool_choice(struct reader *r, const char *name, const json_t *v);
int read_template_kwargs(struct reader *r, const char *name, const json_t *v);
int read_response_format(struct reader *r, const char *name, const json_t *v);
int read_n(struct reader *r, const char *name, const json_t *v);
int read_skip_special(struct reader *r, const char *name, const json_t *v);
int read_keep_alive(struct reader *r, const char *name, const json_t *v);
int read_priority(struct reader *r, const char *name, const json_t *v);
int read_cache_salt(struct reader *r, const char *name, const json_t *v);
int read_timeout(struct reader *r, const char *name, const json_t *v);
int read_max_tokens(struct reader *r, const char *name, const json_t *v);
int read_stream(struct reader *r, const char *name, const json_t *v);
int read_stream_options(struct reader *r, const char *name, const json_t *v);
int read_timings(struct reader *r, const char *name, const json_t *v);
int read_seed(struct reader *r, const char *name, const json_t *v);
int read_top_k(struct reader *r, const char *name, const json_t *v);
int read_repetition_penalty(struct reader *r, const char *name, const json_t *v);
int read_logit_bias(struct reader *r, const char *name, const json_t *v);
int read_logprobs(struct reader *r, const char *name, const json_t *v);
int read_stop(struct reader *r, const char *name, const json_t *v);
int read_stop_token_ids(struct reader *r, const char *name, const json_t *v);

/* An array of token ids into the request's arena; item names one for refusals ("prompt[3]"). */
int read_ids(struct reader *r, const char *name, const json_t *v, const int32_t **ret,
             uint32_t *ret_n);

/* Numbers with their range named on refusal. */
int read_int(struct reader *r, const char *name, const json_t *v, int64_t min, int64_t max,
             int64_t *ret);
int read_num(struct reader *r, const char *name, const json_t *v, double min, double max,
             double *ret);
int draw_seed(struct gen_params *p, struct err *err) MUST_USE;
/* Bytes or err: memory for the request was not to be had, or too much was asked. */
int no_room(struct reader *r, const char *name, const struct err *err);
/* v as compact JSON in the request's arena. */
int keep_json(struct reader *r, const char *name, const json_t *v, struct str *ret);

#endif
