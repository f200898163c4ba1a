/* SPDX-License-Identifier: Apache-2.0 */
/* The neutral form of a generation request and of what comes back: what the API
 * dialects translate from and to, and what crosses between daemon and worker.
 * Knows no dialect and no engine.
 *
 * A gen_request owns its memory through its arena; free with
 * gen_request_release. */
#ifndef LIB_IPC_GEN_H
#define LIB_IPC_GEN_H

#include "lib/base/arena.h"
#include "lib/base/str.h"

enum gen_input {
    GEN_INPUT_TEXT,   /* text: completed as it stands */
    GEN_INPUT_TOKENS, /* token ids */
    GEN_INPUT_CHAT    /* messages, tools and kwargs as JSON texts, through the
                         model's template */
};

struct gen_logit_bias {
    int32_t token;
    float bias; /* added to the logit; -100 or less bans, as in OpenAI's API */
};

/* Every parameter that shapes an answer.  Defaults: gen_params_init. */
struct gen_params {
    uint32_t max_tokens; /* per choice; 0: up to the context's end */
    uint32_t min_tokens; /* end-of-generation is banned before; default 0 */
    uint32_t n;          /* choices; default 1 */
    int32_t priority;    /* requests of lower ones are served first; default 0; no answer depends on
                            it */
    bool has_seed;       /* without one the daemon draws it, so that a worker always
                            gets one */
    uint64_t seed;
    float temperature;                         /* 0: greedy; default 1 */
    uint32_t top_k;                            /* 0: off (default) */
    float top_p;                               /* 1: off (default) */
    float min_p;                               /* 0: off (default) */
    float repetition_penalty;                  /* 1: off (default); over prompt and answer */
    float presence_penalty, frequency_penalty; /* 0: off (default); over the answer */
    bool want_logprobs;                        /* of the chosen tokens */
    uint32_t top_logprobs; /* and this many others; <= LIMIT_REQUEST_TOP_LOGPROBS */
    bool ignore_eos;
    bool add_special;  /* text input: put BOS where the model wants it; default
                          true */
    bool echo;         /* the prompt's text comes back before the answer */
    bool include_stop; /* the stop string that ends the answer is the end of its text */
    bool show_special; /* control tokens of the answer are part of its text */
};

void gen_params_init(struct gen_params *p);

struct gen_request {
    struct arena arena; /* owns everything below */
    enum gen_input input;
    struct str text;       /* GEN_INPUT_TEXT */
    const int32_t *tokens; /* GEN_INPUT_TOKENS */
    uint32_t n_tokens;
    struct str messages_json; /* GEN_INPUT_CHAT: an array */
    struct str tools_json;    /* array, or empty */
    struct str kwargs_json;   /* object, or empty */
    struct gen_params params;
    uint64_t cache_salt;     /* whose it is: prompts of others are never looked at for reuse */
    const struct str *stops; /* stop strings, not empty ones */
    uint32_t n_stops;
    const int32_t *stop_tokens;
    uint32_t n_stop_tokens;
    const struct gen_logit_bias *logit_bias;
    uint32_t n_logit_bias;
};

void gen_request_init(struct gen_request *r);
void gen_request_release(struct gen_request *r);

/* Values as stated above and within limits.h, each error naming the parameter
 * as clients know it and its range. */
int gen_request_check(const struct gen_request *r, struct err *err) MUST_USE;
/* Whether s is valid UTF-8, as DELTA texts and stop strings must be. */
bool gen_text_is_utf8(struct str s);

enum gen_finish {
    GEN_FINISH_NONE,
    GEN_FINISH_STOP,   /* end-of-generation token, stop string or stop token */
    GEN_FINISH_LENGTH, /* max_tokens or the context's end */
    GEN_FINISH_CANCEL,
    GEN_FINISH_ERROR
};

struct gen_top {
    int32_t token;
    float logprob;
    struct str bytes;
};

struct gen_token {
    int32_t token;
    float logprob;    /* natural log of its probability before temperature and
                         penalties */
    struct str bytes; /* its text alone, raw bytes */
    const struct gen_top *top;
    uint32_t n_top;
};

enum gen_event_type {
    GEN_EVENT_STARTED,     /* admitted: n_prompt, n_cached known */
    GEN_EVENT_DELTA,       /* text (valid UTF-8, may be empty) and the tokens it came
                              from */
    GEN_EVENT_CHOICE_DONE, /* one choice ended: finish, n_generated */
    GEN_EVENT_DONE,        /* all choices ended; last event of a request unless FAILED */
    GEN_EVENT_FAILED,      /* code and message; last event */
    GEN_EVENT_PROGRESS     /* of a load, made by the runner: text, done, total; never
                              on the wire */
};

/* Borrowed views, valid during the call that delivers the event. */
struct gen_event {
    enum gen_event_type type;
    uint64_t request_id;
    uint32_t choice;                /* DELTA, CHOICE_DONE */
    struct str text;                /* DELTA */
    const struct gen_token *tokens; /* DELTA: with want_logprobs, else NULL */
    uint32_t n_tokens;              /* DELTA: tokens that this delta accounts for (also without
                                       logprobs) */
    enum gen_finish finish;         /* CHOICE_DONE; DONE: GEN_FINISH_CANCEL when canceled,
                                       else NONE */
    int32_t stop_index;             /* CHOICE_DONE: index of the stop string that matched, or
                                       -1 */
    uint32_t n_prompt, n_cached;    /* STARTED, DONE */
    uint32_t n_generated;           /* CHOICE_DONE: of the choice; DONE: of all */
    double queue_ms, prefill_ms, decode_ms; /* DONE */
    int code;                               /* FAILED: enum err_code */
    struct str message;                     /* FAILED */
    uint64_t done, total;                   /* PROGRESS; total 0: unknown */
    /* STARTED, DONE, filled in by the runner: which bytes with which declared
     * parameters answer */
    const char *model_digest; /* "sha256:…" or "" */
    const char *fingerprint;  /* "fp_…" */
};

#endif
