/* SPDX-License-Identifier: Apache-2.0 */
/* What is declared of one model: how it is loaded, how long it stays, and the defaults of its
 * requests.  A plain value with its JSON form, which the API speaks and the state folder keeps.
 *
 * A field that was not given is absent (has_… false): the daemon's own option, or the API's
 * default, counts then.  Any thread; owns its texts. */
#ifndef DAEMON_RUNNER_SETTINGS_H
#define DAEMON_RUNNER_SETTINGS_H

#include <jansson.h>

#include "lib/base/err.h"

struct model_settings {
    char *chat_template; /* owned; NULL: the model's own */
    size_t chat_template_len;
    char *speculative_draft_model; /* owned; a name or an absolute path; NULL: not declared */
    /* loading: a change takes a new worker */
    bool has_context_size, has_max_num_seqs, has_max_num_batched_tokens, has_kv_cache_type,
        has_kv_cache_memory, has_threads, has_speculative_num_tokens,
        has_speculative_min_acceptance_rate, has_no_prepare;
    uint32_t context_size, max_num_seqs, max_num_batched_tokens, kv_cache_type, threads,
        speculative_num_tokens;
    float speculative_min_acceptance_rate;
    uint64_t kv_cache_memory;
    bool no_prepare; /* its weights, and its draft model's, are used as their files have them */
    /* staying */
    bool has_keep_alive;
    uint64_t keep_alive_s; /* RUN_FOREVER: for ever */
    bool pinned;           /* never unloaded to make room, never by idleness */
    /* defaults of requests that do not say */
    bool has_temperature, has_top_p, has_min_p, has_top_k, has_repetition_penalty,
        has_presence_penalty, has_frequency_penalty, has_max_tokens, has_seed;
    float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    uint32_t top_k, max_tokens;
    uint64_t seed;
};

void model_settings_init(struct model_settings *s);
void model_settings_release(struct model_settings *s);
int model_settings_copy(struct model_settings *ret, const struct model_settings *s,
                        struct err *err) MUST_USE;
/* Puts obj's keys over what s has: the field names with '-' for '_' and without "has_"
 * ("context-size", "keep-alive": "5m", seconds or -1; "chat-template"; "pinned").  null: absent
 * again.  E_INVALID names the key, for an unknown one the nearest, and the range; s is then
 * unchanged. */
int model_settings_apply(struct model_settings *s, const json_t *obj, struct err *err) MUST_USE;
/* A new reference: what is given, and nothing else. */
json_t *model_settings_json(const struct model_settings *s);
/* Whether a worker loaded with a must be loaded anew for b. */
bool model_settings_reload(const struct model_settings *a, const struct model_settings *b);
/* Names what of it shapes answers, for fingerprints: FNV-1a over its canonical form. */
uint64_t model_settings_hash(const struct model_settings *s);

#endif
