/* SPDX-License-Identifier: Apache-2.0 */
/* The text side of one answer (one choice of a request): tokens to text that may be shown.
 *
 * Text leaves in whole characters; what could still turn out to be the start of a stop string is
 * held back until it is certain, so that a stop string is never shown and never missed, wherever
 * the borders of tokens fall.  Where a stop matches follows from the text alone: at the first byte
 * that completes one; of two that end there, the longer.
 *
 * Scheduler thread. */
#ifndef WORKER_SERVE_ANSWER_H
#define WORKER_SERVE_ANSWER_H

#include "lib/base/buf.h"
#include "lib/ipc/gen.h"
#include "worker/text/tokenizer.h"

/* The stop strings of one request, shared by its choices. */
struct stop_set {
    const struct str *strs; /* borrowed, none empty */
    uint32_t n;
    uint16_t **fail; /* [n][len]: length of the longest proper prefix that ends there too (Knuth,
                        Morris, Pratt) */
};
int stop_set_init(struct stop_set *s, const struct str *strs, uint32_t n, struct err *err) MUST_USE;
void stop_set_release(struct stop_set *s);

struct answer {
    const struct stop_set *stops; /* borrowed */
    uint16_t *state;              /* [stops->n]: bytes of each stop matched so far; owned */
    struct detok detok;
    bool include_stop;   /* a stop that matched is text too */
    bool has_text;       /* false: the model's vocabulary has none, tokens count but say nothing */
    struct buf held;     /* text that may be the start of a stop */
    uint32_t n_tokens;   /* fed */
    uint32_t min_tokens; /* stops are not looked for before */
    uint32_t n_unsent;   /* tokens fed since the caller last took text (the caller resets it) */
    int32_t stop_index;  /* of the stop string that matched, or -1 */
    bool is_done;        /* the caller's mark */
};

/* tok NULL: no text. */
int answer_init(struct answer *a, const struct tokenizer *tok, const struct stop_set *stops,
                const struct gen_params *p, struct err *err) MUST_USE;
void answer_release(struct answer *a);

/* Appends to out the text that became certain.  1: a stop string matched, out ends before it
 * (or with it, where p has include_stop) and the answer is at its end; 0: go on. */
int answer_feed(struct answer *a, int32_t token, struct buf *out, struct err *err) MUST_USE;
/* The answer ended otherwise: what was held back is text after all.  1 when its last bytes complete
 * a stop. */
int answer_finish(struct answer *a, struct buf *out, struct err *err) MUST_USE;

#endif
