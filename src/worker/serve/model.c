/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: from the descriptors of a LOAD to everything that requests need.  Scheduler thread.  See
 * serve.h. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/sandbox.h"
#include "worker/serve/serve.h"

#define LOAD_STAGES 4u
/* Beside what parsing took: prompts and answers in work, frames, thread stacks. */
#define OTHER_BYTES (24u << 20)

/* n of the job's files, which are one model. */
static int files_open(const struct load_job *job, uint32_t first, uint32_t n, struct gguf **ret,
                      struct err *err)
{
    const char *names[LIMIT_MSG_FDS] = {NULL};
    char *owned[LIMIT_MSG_FDS] = {NULL};
    for (uint32_t i = 0; i < n; i++) {
        const struct str *name = &job->msg.file_names[first + i];
        names[i] = owned[i] = mem_dup(name->p, name->len);
    }
    int rc = gguf_open(job->fds + first, names, n, 0, ret, err);
    for (uint32_t i = 0; i < n; i++)
        mem_free(owned[i]);
    return rc;
}

/* A vocabulary without text is a model that completes token ids; a broken one is an error. */
static int tokenizer_load(struct loaded_model *m, struct err *err)
{
    int rc = tokenizer_from_gguf(m->gguf, &m->tok, err);
    if (rc < 0)
        return err_wrap(err, "tokenizer");
    m->has_text = tokenizer_has_text(m->tok);
    return 0;
}

/* The model that guesses, if there is one, of the same tokens.  After the tokenizer. */
static int draft_load(const struct load_job *job, struct loaded_model *m, struct err *err)
{
    struct tokenizer *t = NULL;
    if (job->msg.n_draft_fds == 0)
        return 0;
    int rc = files_open(job, job->msg.n_fds - job->msg.n_draft_fds, job->msg.n_draft_fds, &m->draft,
                        err);
    if (rc == 0)
        rc = tokenizer_from_gguf(m->draft, &t, err);
    if (rc < 0)
        return err_wrap(err, "the draft model");
    struct err why = ERR_INIT;
    rc = tokenizer_check_draft(m->tok, t, &why);
    tokenizer_free(t);
    if (rc == 0)
        return 0;
    if (!job->msg.may_lack_draft)
        return err_set(err, why.code, "%s", why.msg);
    gguf_close(m->draft);
    m->draft = NULL;
    m->draft_refusal = mem_dup(why.msg, strlen(why.msg));
    return 0;
}

static int eog_list(struct loaded_model *m, struct err *err)
{
    uint32_t n = 0, n_vocab = MIN_OF(m->n_vocab, tokenizer_n_vocab(m->tok));
    for (uint32_t i = 0; i < n_vocab; i++)
        n += tokenizer_is_eog(m->tok, (int32_t)i);
    m->eog = mem_try_alloc(n, sizeof(*m->eog), err);
    if (!m->eog)
        return -err->code;
    for (uint32_t i = 0; i < n_vocab && m->n_eog < n; i++) {
        if (tokenizer_is_eog(m->tok, (int32_t)i))
            m->eog[m->n_eog++] = (int32_t)i;
    }
    return 0;
}

/* A template that cannot be compiled costs chat, not the model. */
static void template_load(struct loaded_model *m, const struct msg_load *msg)
{
    if (!m->has_text)
        return;
    if (chat_template_from_gguf(m->gguf, msg->chat_template, &m->chat, &m->chat_err) == 0)
        return;
    m->chat = NULL;
    log_warn("%s", m->chat_err.msg);
}

/* --- what it takes, and whether there is room
 * ------------------------------------------------------------------------------------------------
 */

/* level: 64 bytes that *ret points into. */
static int config_make(const struct msg_load *msg, const struct gguf *draft, char level[64],
                       struct engine_config *ret, struct err *err)
{
    if (msg->kv_type >= KV_N)
        return err_set(err, E_INVALID, "cache type %u is unknown", msg->kv_type);
    if (msg->cpu_level.len >= 64)
        return err_set(err, E_INVALID, "CPU level has %zu bytes", msg->cpu_level.len);
    snprintf(level, 64, "%.*s", STR_ARG(msg->cpu_level));
    *ret = (struct engine_config){
        .n_threads = msg->n_threads,
        .n_ctx = msg->n_ctx,
        .max_num_seqs = msg->max_num_seqs,
        .max_num_batched_tokens = msg->max_num_batched_tokens,
        .block_size = msg->block_size,
        .no_prefix_cache = msg->no_prefix_cache,
        .n_speculate = msg->n_speculate,
        .min_acceptance = msg->min_acceptance,
        .draft = draft,
        .kv_type = (enum kv_type)msg->kv_type,
        .kv_cache_bytes = msg->kv_cache_bytes,
        .memory_limit_bytes = UINT64_MAX, /* the daemon's to judge, who knows the other models */
        .cpu_level = level[0] ? level : NULL,
    };
    return 0;
}

static void progress(struct serve *s, const char *what, uint64_t done)
{
    const struct msg_progress m = {.what = str_from(what), .done = done, .total = LOAD_STAGES};
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    if (msg_progress_encode(&b, &m, &err) == 0 &&
        outbox_put(&s->out, MSG_PROGRESS, &b, true, &err) == 0)
        outbox_flush(&s->out);
    buf_release(&b);
}

static int send_plan(struct serve *s, const struct engine_plan *p, struct err *err)
{
    /* What parsing has taken by now is known best by the allocator. */
    struct mallinfo2 held = mallinfo2();
    const struct msg_plan m = {
        .weight_bytes = p->weight_bytes,
        .kv_bytes = p->kv_bytes,
        .scratch_bytes = p->scratch_bytes,
        .other_bytes = held.uordblks + held.hblkhd + OTHER_BYTES,
        .block_bytes = p->block_bytes,
        .n_blocks = p->n_blocks,
        .block_size = p->config.block_size,
        .n_ctx = p->config.n_ctx,
        .max_num_seqs = p->config.max_num_seqs,
        .kv_type = (uint32_t)p->config.kv_type,
    };
    struct buf b;
    buf_init(&b, LIMIT_MSG_SMALL_BYTES);
    int rc = msg_plan_encode(&b, &m, err);
    if (rc == 0)
        rc = outbox_put(&s->out, MSG_PLAN, &b, true, err);
    buf_release(&b);
    outbox_flush(&s->out);
    return rc;
}

/* Nothing of the plan is allocated before the daemon has found room for it. */
static int admission_await(struct serve *s, const struct engine_plan *plan, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    s->is_planned = true; /* before PLAN goes out: ADMIT may follow it at once */
    pthread_mutex_unlock(&s->lock);
    int rc = send_plan(s, plan, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    while (!s->is_admitted && !s->is_ending)
        pthread_cond_wait(&s->for_scheduler, &s->lock);
    bool is_admitted = s->is_admitted && !s->is_ending;
    pthread_mutex_unlock(&s->lock);
    return is_admitted ? 0 : err_set(err, E_CANCELED, "the load was called off");
}

/* Prepared weights that came with the model, behind its files; where they are of no use it runs
 * without, and the daemon hears that it does. */
static void prepared_take(const struct load_job *job, struct loaded_model *m)
{
    const int *fd = job->fds + job->msg.n_fds;
    for (int of = 0; of < WEIGHTS_N; of++) {
        struct err err = ERR_INIT;
        if (!job->msg.has_prepared[of])
            continue;
        if ((of == WEIGHTS_OF_MODEL || m->draft) &&
            engine_attach_prepared(m->engine, (enum weights_of)of, *fd, &err) < 0)
            log_warn("%s", err.msg);
        fd++;
    }
}

static int engine_load(struct serve *s, struct loaded_model *m, struct err *err)
{
    char level[64];
    struct engine_config cfg;
    struct engine_plan plan;
    int rc = config_make(&s->load.msg, m->draft, level, &cfg, err);
    if (rc == 0)
        rc = engine_plan(m->gguf, &cfg, &plan, err);
    if (rc == 0)
        rc = admission_await(s, &plan, err);
    if (rc < 0)
        return rc;
    sandbox_limit_memory(plan.kv_bytes + plan.scratch_bytes + LIMIT_WORKER_EXTRA_BYTES);
    progress(s, "taking memory", 3);
    rc = engine_new(m->gguf, &cfg, &m->engine, err);
    if (rc < 0)
        return rc;
    prepared_take(&s->load, m);
    m->n_vocab = engine_hparams(m->engine)->n_vocab;
    m->n_ctx = engine_get_plan(m->engine)->config.n_ctx;
    return 0;
}

static struct msg_prepared prepared_describe(const struct loaded_model *m, enum weights_of of)
{
    return (struct msg_prepared){.n_bytes = engine_prepared_bytes(m->engine, of),
                                 .is_used = engine_is_prepared(m->engine, of)};
}

static int describe(const struct loaded_model *m, struct arena *arena, struct msg_loaded *ret,
                    struct err *err)
{
    const struct engine_plan *plan = engine_get_plan(m->engine);
    const struct hparams *h = engine_hparams(m->engine);
    struct buf text;
    buf_init(&text, 32u << 10);
    engine_plan_print(plan, &text);
    const char *summary = arena_try_dup(arena, buf_str(&text), text.len, err);
    size_t len = text.len;
    buf_release(&text);
    if (!summary)
        return -err->code;
    *ret = (struct msg_loaded){
        .prepared = {prepared_describe(m, WEIGHTS_OF_MODEL),
                     prepared_describe(m, WEIGHTS_OF_DRAFT)},
        .weight_bytes = plan->weight_bytes,
        .kv_bytes = plan->kv_bytes,
        .scratch_bytes = plan->scratch_bytes,
        .draft_weight_bytes = plan->draft_weight_bytes,
        .n_ctx = plan->config.n_ctx,
        .n_vocab = h->n_vocab,
        .n_layer = h->n_layer,
        .n_params = plan->n_params,
        .has_chat_template = m->chat,
        .has_text = m->has_text,
        .arch = str_from(h->arch),
        .quant = str_from(gguf_quant_name(m->gguf)),
        .cpu_level = str_from(plan->config.cpu_level),
        .summary = {summary, len},
        .draft_refusal = m->draft_refusal ? str_from(m->draft_refusal) : (struct str){0},
    };
    return 0;
}

int model_load(struct serve *s, struct loaded_model *ret, struct arena *arena,
               struct msg_loaded *loaded, struct err *err)
{
    struct loaded_model m = {0};
    progress(s, "reading the file", 0);
    int rc = files_open(&s->load, 0, s->load.msg.n_fds - s->load.msg.n_draft_fds, &m.gguf, err);
    if (rc == 0) {
        progress(s, "reading the vocabulary", 1);
        rc = tokenizer_load(&m, err);
    }
    if (rc == 0)
        rc = draft_load(&s->load, &m, err);
    if (rc == 0) {
        /* Before the plan, so that its memory is in the sum. */
        template_load(&m, &s->load.msg);
        progress(s, "planning memory", 2);
        rc = engine_load(s, &m, err);
    }
    if (rc == 0)
        rc = eog_list(&m, err);
    if (rc == 0)
        rc = describe(&m, arena, loaded, err);
    if (rc < 0) {
        model_release(&m);
        return rc;
    }
    *ret = m;
    return 0;
}

void model_release(struct loaded_model *m)
{
    engine_free(m->engine);
    chat_template_free(m->chat);
    tokenizer_free(m->tok);
    gguf_close(m->gguf);
    gguf_close(m->draft);
    mem_free(m->draft_refusal);
    mem_free(m->eog);
    *m = (struct loaded_model){0};
}
