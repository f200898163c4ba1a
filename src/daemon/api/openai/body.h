/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of POST /v1/completions and /v1/chat/completions: bytes to a neutral gen_request.
 *
 * One row of param.def per parameter; whatever is in no row is refused by name, so that a misspelt
 * parameter never passes unnoticed.  Knows no runner.  Any thread. */
#ifndef DAEMON_API_OPENAI_BODY_H
#define DAEMON_API_OPENAI_BODY_H

#include <jansson.h>

#include "daemon/api/error.h"
#include "daemon/runner/runner.h"
#include "lib/ipc/gen.h"

enum api_dialect { API_COMPLETION = 1, API_CHAT = 2 }; /* bits: param.def's rows name both with | */

/* One of a request's prompts; views into its arena. */
struct api_prompt {
    enum gen_input input;
    struct str text;       /* GEN_INPUT_TEXT */
    const int32_t *tokens; /* GEN_INPUT_TOKENS */
    uint32_t n_tokens;
};

struct api_body {
    enum api_dialect dialect;
    char *model; /* in req.arena */
    bool stream, include_usage, want_timings;
    bool has_keep_alive;
    uint64_t keep_alive_s; /* of the model after this request; RUN_FOREVER */
    uint64_t timeout_ms;   /* 0: not said */
    bool is_seed_drawn;    /* nobody gave one */
    struct api_prompt *prompts;
    uint32_t n_prompts; /* at least 1; a conversation is one */
    /* The request, with its first prompt; has a seed; released by api_body_release, or taken (then
     * re-initialised). */
    struct gen_request req;
};

/* What is declared of a model: fills *ret, which body.c releases.  An error refuses the request. */
typedef int (*api_settings_fn)(void *ctx, const char *model, struct model_settings *ret,
                               struct err *err);

/* 0, or a negative code with e filled; on failure nothing is held.  Declared settings (fn may be
 * NULL) count where the body says nothing. */
int api_body_parse(struct api_body *b, enum api_dialect dialect, struct str text,
                   api_settings_fn fn, void *ctx, struct api_error *e) MUST_USE;
/* The request for prompt i as a copy of its own. */
int api_body_request(const struct api_body *b, uint32_t i, struct gen_request *ret,
                     struct err *err) MUST_USE;
void api_body_release(struct api_body *b);

/* A JSON object from a body, or e (400 with the offset).  An empty body is an empty object when
 * may_be_empty. */
int api_json_parse(struct str text, bool may_be_empty, json_t **ret, struct api_error *e) MUST_USE;

/* Overlays p with the values that s declares. */
void api_params_default(struct gen_params *p, const struct model_settings *s);
/* Seconds as a number, any negative one for ever (RUN_FOREVER), or a duration: "5m", "1h30m", "-1".
 */
int api_keep_alive_read(const json_t *v, uint64_t *ret, struct err *err) MUST_USE;
/* The values that shape a request's answer as one JSON object, by the names that requests use. */
void api_params_put(const struct gen_params *p, struct buf *out);
/* The parameter that a sentence of the engine begins with, "" when it does with none. */
void api_param_of(const char *sentence, char ret[64]);

/* Rows of param.def, for documentation and tests. */
struct api_param {
    const char *name, *kind, *doc, *neutral; /* neutral: what a refused one may be, by | */
    unsigned dialects;
    double min, max; /* of numbers */
};
size_t api_param_count(void);
struct api_param api_param_at(size_t i);

#endif
