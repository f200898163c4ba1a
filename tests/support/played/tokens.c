/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of the played models, from a thread as a worker's are. */
#include "tests/support/played/runner.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"

/* A token is a byte; 256 goes before a text, 257 is what "<end>" spells. */
struct tokens_play {
    struct runner *runner;
    int32_t ids[64];
    uint32_t n;
    char text[64];
    bool is_text;
    runner_tokens_fn fn;
    void *ctx;
};

static void *tokens_run(void *arg)
{
    struct tokens_play *p = arg;
    struct run_tokens t = {.tokens = p->ids, .n_tokens = p->n, .n_ctx = 128};
    for (uint32_t i = 0; p->is_text && i < p->n; i++) {
        p->text[i] = (char)p->ids[i];
        if (p->ids[i] > 257)
            err_set(&t.err, E_INVALID,
                    "prompt[%u] is token %d, and the model's tokens are 0 to 257", i, p->ids[i]);
    }
    t.text = (struct str){p->text, p->n};
    p->fn(p->ctx, &t);
    /* The real runner answers from a thread that it joins; here runner_stop() waits for this. */
    struct runner *r = p->runner;
    mem_free(p);
    pthread_mutex_lock(&r->lock);
    r->n_tokens_jobs--;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static int tokens_start(const char *model, const struct tokens_play *what, struct err *err)
{
    struct runner *r = what->runner;
    pthread_t t;
    pthread_attr_t attr;
    if (!played_knows(model))
        return err_set(err, E_NOTFOUND, "no model is called '%s'", model);
    struct tokens_play *p = mem_alloc(sizeof(*p));
    *p = *what;
    pthread_mutex_lock(&r->lock);
    r->n_tokens_jobs++;
    pthread_mutex_unlock(&r->lock);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    BUG_ON(pthread_create(&t, &attr, tokens_run, p) != 0);
    pthread_attr_destroy(&attr);
    return 0;
}

int runner_tokenize(struct runner *r, const char *model, struct str text, bool special,
                    bool parse_special, runner_tokens_fn fn, void *ctx, struct err *err)
{
    struct tokens_play p = {.runner = r, .fn = fn, .ctx = ctx};
    if (special)
        p.ids[p.n++] = 256;
    if (parse_special && str_is(text, "<end>"))
        p.ids[p.n++] = 257;
    else
        for (size_t i = 0; i < text.len && p.n < 64; i++)
            p.ids[p.n++] = (unsigned char)text.p[i];
    return tokens_start(model, &p, err);
}

int runner_detokenize(struct runner *r, const char *model, const int32_t *tokens, uint32_t n_tokens,
                      runner_tokens_fn fn, void *ctx, struct err *err)
{
    struct tokens_play p = {
        .runner = r, .fn = fn, .ctx = ctx, .is_text = true, .n = MIN_OF(n_tokens, 64u)};
    memcpy(p.ids, tokens, p.n * sizeof(*tokens));
    return tokens_start(model, &p, err);
}
