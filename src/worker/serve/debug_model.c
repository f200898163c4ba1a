/* SPDX-License-Identifier: Apache-2.0 */
/* `berth debug logits`, `show` and `plan`: what a model file says and computes.  Called by debug.c
 * alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/gguf_show.h"
#include "worker/model/weights_show.h"
#include "worker/serve/debug_impl.h"

#define SHOW_MAX_BYTES (256u << 20)

int debug_open(const char *path, struct model_files *ret, struct err *err)
{
    static const struct {
        struct str suffix;
        const char *what;
    } later[] = {{STR_LIT(".safetensors"), "a safetensors file"},
                 {STR_LIT(".dduf"), "a DDUF pipeline"},
                 {STR_LIT("tokenizer.json"), "a Hugging Face tokenizer"},
                 {STR_LIT(".json"), "JSON"}};
    struct stat st;
    *ret = (struct model_files){0};
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return err_set(err, E_UNSUPPORTED,
                       "%.300s is a folder; this version of berth reads GGUF files alone", path);
    for (size_t i = 0; i < ARRAY_LEN(later); i++) {
        if (str_has_suffix(str_from(path), later[i].suffix))
            return err_set(err, E_UNSUPPORTED,
                           "%.300s is %s; this version of berth reads GGUF files alone", path,
                           later[i].what);
    }
    return model_files_open(path, ret, err);
}

/* Computes and writes the rows; the ids were read before. */
static int logits(const struct gguf *g, const struct debug_request *r, const struct debug_ids *ids,
                  int out_fd, struct err *err)
{
    struct engine_config cfg = r->engine;
    struct engine_plan plan;
    struct engine *e = NULL;
    float *out = NULL;
    cfg.max_num_seqs = 1;
    int rc = engine_plan(g, &cfg, &plan, err);
    if (rc == 0 && plan.config.n_ctx < ids->n)
        cfg.n_ctx = (uint32_t)ids->n;
    if (rc == 0)
        rc = engine_new(g, &cfg, &e, err);
    uint32_t n_vocab = rc == 0 ? engine_hparams(e)->n_vocab : 0;
    for (size_t i = 0; rc == 0 && i < ids->n; i++) {
        if ((uint32_t)ids->ids[i] >= n_vocab)
            rc = err_set(err, E_INVALID, "token %d is not in the vocabulary of %u entries",
                         ids->ids[i], n_vocab);
    }
    if (rc == 0) {
        out = mem_try_alloc(ids->n, (size_t)n_vocab * sizeof(float), err);
        rc = out ? engine_logits(e, ids->ids, (uint32_t)ids->n, out, err) : -err->code;
    }
    if (rc == 0)
        rc = debug_write(out_fd, out, ids->n * n_vocab * sizeof(float), err);
    mem_free(out);
    engine_free(e);
    return rc;
}

static int show(const struct gguf *g, struct err *err)
{
    struct buf out;
    buf_init(&out, SHOW_MAX_BYTES);
    int rc = gguf_show_json(g, 0, &out, err);
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, out.data, out.len, err);
    buf_release(&out);
    return rc;
}

static void print_prepared(const struct gguf *g, const char *level, const char *title,
                           struct buf *out)
{
    struct err unbound = ERR_INIT; /* a load would tell; this is about memory */
    uint64_t n_bytes = 0;
    if (engine_prepare(g, level, -1, NULL, NULL, &n_bytes, &unbound) == 0)
        buf_printf(out, "%-20s%16llu bytes on the disk, mapped instead\n", title,
                   (unsigned long long)n_bytes);
}

/* draft: its open files, none when there is none. */
static int plan(const struct gguf *g, const struct debug_request *r,
                const struct model_files *draft, struct err *err)
{
    struct engine_config cfg = r->engine;
    struct gguf *guesses = NULL;
    struct engine_plan p;
    struct buf out;
    int rc = 0;
    if (draft->n)
        rc = gguf_open(draft->fds, (const char *const *)draft->paths, draft->n, 0, &guesses, err);
    cfg.draft = guesses;
    buf_init(&out, LIMIT_MSG_SMALL_BYTES);
    if (rc == 0)
        rc = engine_plan(g, &cfg, &p, err);
    if (rc == 0) {
        engine_plan_print(&p, &out);
        print_prepared(g, cfg.cpu_level, "prepared weights", &out);
        if (guesses)
            print_prepared(guesses, cfg.cpu_level, "of the draft model", &out);
        rc = buf_status(&out, "the plan", err);
    }
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, buf_str(&out), out.len, err);
    gguf_close(guesses);
    buf_release(&out);
    return rc;
}

/* What is no GGUF, and is shown alone. */
static int show_weights(const struct debug_request *r, int (*shut_in)(struct err *err),
                        struct err *err)
{
    struct model_files files;
    struct buf out;
    int rc = model_files_open(r->path, &files, err);
    if (rc < 0)
        return rc;
    buf_init(&out, SHOW_MAX_BYTES);
    rc = shut_in(err);
    if (rc == 0)
        rc = weights_show_json(files.fds[0], files.paths[0], &out, err);
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, out.data, out.len, err);
    buf_release(&out);
    model_files_close(&files);
    return rc;
}

int debug_model(const struct debug_request *r, int (*shut_in)(struct err *err), struct err *err)
{
    struct model_files files, draft = {0};
    struct debug_ids ids = {0};
    struct gguf *g = NULL;
    int out_fd = -1;
    if (r->what == DEBUG_SHOW && weights_show_knows(r->path))
        return show_weights(r, shut_in, err);
    int rc = debug_open(r->path, &files, err);
    if (rc == 0 && r->what == DEBUG_LOGITS)
        rc = debug_ids_read(str_from(r->tokens), &ids, err);
    if (rc == 0 && r->what == DEBUG_LOGITS) {
        out_fd = open(r->out_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (out_fd < 0)
            rc = err_set_sys(err, E_IO, "opening %.300s for the result", r->out_path);
    }
    if (rc == 0 && r->draft_path)
        rc = debug_open(r->draft_path, &draft, err);
    if (rc == 0)
        rc = shut_in(err);
    if (rc == 0)
        rc = gguf_open(files.fds, (const char *const *)files.paths, files.n,
                       r->what == DEBUG_SHOW ? GGUF_HEADER_ONLY : 0, &g, err);
    if (rc == 0) {
        switch (r->what) {
        case DEBUG_LOGITS: rc = logits(g, r, &ids, out_fd, err); break;
        case DEBUG_SHOW: rc = show(g, err); break;
        case DEBUG_PLAN: rc = plan(g, r, &draft, err); break;
        default: BUG_ON(true);
        }
    }
    gguf_close(g);
    mem_free(ids.ids);
    model_files_close(&files);
    model_files_close(&draft);
    if (out_fd >= 0 && close(out_fd) < 0 && rc == 0)
        rc = err_set_sys(err, E_IO, "writing %.300s", r->out_path);
    return rc;
}
