/* SPDX-License-Identifier: Apache-2.0 */
/* A server under load: berth's daemon, or any that speaks OpenAI's API.  Main thread, but for
 * target_body. */
#ifndef CLI_BENCH_TARGET_H
#define CLI_BENCH_TARGET_H

#include "cli/args.h"
#include "cli/bench/memory.h"
#include "cli/client.h"

struct target {
    const char *name; /* "berth", or where it is; borrowed */
    bool is_berth;
    bool has_template; /* berth's model can be chatted with */
    struct client client;
    struct buf model;  /* owned */
    struct buf listed; /* owned: berth's own name of it, as its list of models has it */
    json_t *ids;       /* owned: token ids that prompts are drawn from; NULL: the server makes none
                          of a text, and prompts are words */
    double word_tokens, extra_tokens; /* of prompts of words: what one counts for, and what there is
                                         besides; as the server counts, else 1 and 0 */
};

/* What every prompt of a run is like. */
struct target_prompts {
    uint32_t prompt_len, prefix_len; /* tokens; the first prefix_len are the same in all */
    uint32_t output_len;             /* tokens of each answer */
    uint64_t seed;                   /* of the draws */
    const char *text; /* this instead, as a conversation's one message where the model can be
                         chatted with; NULL: not */
};

/* The daemon, started where none answers, with the model loaded. args: the bench command's. */
int target_open(struct target *t, const struct config *config, const char *model,
                struct err *err) MUST_USE;
/* The server at http[s]://HOST[:PORT][/v1].  model NULL: the first that it names. */
int target_open_url(struct target *t, const char *url, const char *model, const char *key,
                    struct err *err) MUST_USE;
void target_release(struct target *t); /* also after a failure */

/* Where requests go, and the n-th one's body (new reference, any thread): the same for every
 * target that has the same ids, no two n alike after the prefix. */
const char *target_path(const struct target *t, const struct target_prompts *p);
json_t *target_body(const struct target *t, const struct target_prompts *p, uint32_t n);

/* Whether it runs on this machine, as far as its address tells. */
bool target_is_here(const struct target *t);
/* Memory of the server's processes on this machine, each false when not known.  worker: the
 * model's process, where it has one of its own. */
void target_memory(const struct target *t, bool *has_daemon, struct bench_memory *daemon,
                   bool *has_worker, struct bench_memory *worker);

#endif
