/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: from the descriptors of a LOAD to everything that requests need.  Scheduler thread.  See
 * serve.h. */
#include <stdio.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/sys/sandbox.h"
#include "worker/serve/serve.h"

static int files_open(const struct load_job *job, struct gguf **ret, struct err *err)
{
    const char *names[LIMIT_MSG_FDS];
    char *owned[LIMIT_MSG_FDS] = {NULL};
    for (uint32_t i = 0; i < job->n_fds; i++)
        names[i] = owned[i] = mem_dup(job->msg.file_names[i].p, job->msg.file_names[i].len);
    int rc = gguf_open(job->fds, names, job->n_fds, 0, ret, err);
    for (uint32_t i = 0; i < job->n_fds; i++)
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

static int engine_load(struct loaded_model *m, const struct msg_load *msg, struct err *err)
{
    char level[64];
    if (msg->kv_type >= KV_N)
        return err_set(err, E_INVALID, "cache type %u is unknown", msg->kv_type);
    if (msg->cpu_level.len >= sizeof(level))
        return err_set(err, E_INVALID, "CPU level has %zu bytes", msg->cpu_level.len);
    snprintf(level, sizeof(level), "%.*s", STR_ARG(msg->cpu_level));
    const struct engine_config cfg = {
        .n_threads = msg->n_threads,
        .n_ctx = msg->n_ctx,
        .max_num_seqs = msg->max_num_seqs,
        .max_num_batched_tokens = msg->max_num_batched_tokens,
        .block_size = msg->block_size,
        .kv_type = (enum kv_type)msg->kv_type,
        .kv_cache_bytes = msg->kv_cache_bytes,
        .cpu_level = level[0] ? level : NULL,
    };
    int rc = engine_new(m->gguf, &cfg, &m->engine, err);
    if (rc < 0)
        return rc;
    m->n_vocab = engine_hparams(m->engine)->n_vocab;
    m->n_ctx = engine_get_plan(m->engine)->config.n_ctx;
    return 0;
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
        .weight_bytes = plan->weight_bytes,
        .kv_bytes = plan->kv_bytes,
        .scratch_bytes = plan->scratch_bytes,
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
    };
    return 0;
}

int model_load(const struct load_job *job, struct loaded_model *ret, struct arena *arena,
               struct msg_loaded *loaded, struct err *err)
{
    struct loaded_model m = {0};
    int rc = files_open(job, &m.gguf, err);
    if (rc == 0)
        rc = tokenizer_load(&m, err);
    if (rc == 0)
        rc = engine_load(&m, &job->msg, err);
    if (rc == 0)
        rc = eog_list(&m, err);
    if (rc == 0) {
        template_load(&m, &job->msg);
        rc = describe(&m, arena, loaded, err);
    }
    if (rc < 0) {
        model_release(&m);
        return rc;
    }
    sandbox_limit_memory(loaded->kv_bytes + loaded->scratch_bytes + LIMIT_WORKER_EXTRA_BYTES);
    *ret = m;
    return 0;
}

void model_release(struct loaded_model *m)
{
    engine_free(m->engine);
    chat_template_free(m->chat);
    tokenizer_free(m->tok);
    gguf_close(m->gguf);
    mem_free(m->eog);
    *m = (struct loaded_model){0};
}
