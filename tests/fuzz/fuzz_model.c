/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models: what passes as GGUF is loaded as a worker loads it (tokenizer, engine, chat
 * template), says something and computes a few tokens, in bounded memory. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "worker/engine/engine.h"
#include "worker/text/chat.h"
#include "worker/text/tokenizer.h"

#define MEMORY_BYTES (256ull << 20)
#define PROMPT_MAX   12u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "Once <s>upon</s> a time,\n  42 caf\xC3\xA9s \xF0\x9F\x99\x82 \xFF<|im_end|> <0x41>";

static void try_text(const struct tokenizer *t, struct token_vec *ids)
{
    struct err err = ERR_INIT;
    struct buf out;
    struct detok d;
    for (unsigned flags = 0; flags < 4; flags++) {
        ids->len = 0;
        int rc = tokenizer_encode(t, (struct str){text, sizeof(text) - 1}, flags, ids, &err);
        BUG_ON(rc < 0 && !err.msg[0]);
    }
    buf_init(&out, 1 << 20);
    detok_init(&d, t, true, true);
    for (uint32_t i = 0; i < tokenizer_n_vocab(t) && i < 2000; i++) {
        int rc = tokenizer_token_bytes(t, (int32_t)i, &out, &err);
        if (rc == 0)
            rc = detok_feed(&d, (int32_t)i, &out, &err);
        (void)rc;
    }
    int rc = detok_finish(&d, &out, &err);
    (void)rc;
    buf_release(&out);
}

static void try_chat(const struct gguf *g, const struct tokenizer *t, struct token_vec *ids)
{
    struct err err = ERR_INIT;
    struct chat_template *c = NULL;
    json_t *messages = json_pack("[{ssss}]", "role", "user", "content", "hi </s>");
    if (chat_template_from_gguf(g, (struct str){NULL, 0}, &c, &err) == 0 && c) {
        const struct chat_request req = {.messages = messages, .add_generation_prompt = true};
        ids->len = 0;
        int rc = chat_encode(c, t, &req, ids, NULL, &err);
        BUG_ON(rc < 0 && !err.msg[0]);
    }
    chat_template_free(c);
    json_decref(messages);
}

static void on_event(void *ctx, const struct engine_event *ev)
{
    unsigned *n = ctx;
    *n += ev->type == ENGINE_TOKEN;
}

/* Over to prepared weights, and not to the model's own file, which is none. */
static void try_prepared(const struct gguf *g, struct engine *e, int not_one)
{
    static int fd = -1;
    struct err err = ERR_INIT;
    uint64_t n = 0;
    if (fd < 0)
        fd = memfd_create("prepared", MFD_CLOEXEC);
    BUG_ON(engine_attach_prepared(e, WEIGHTS_OF_MODEL, not_one, &err) == 0);
    if (fd < 0 || ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) != 0)
        return;
    BUG_ON(engine_prepare(g, NULL, fd, NULL, NULL, &n, &err) < 0);
    BUG_ON(n != engine_prepared_bytes(e, WEIGHTS_OF_MODEL) ||
           (n && engine_attach_prepared(e, WEIGHTS_OF_MODEL, fd, &err) < 0));
}

static void try_engine(const struct gguf *g, int fd, const struct tokenizer *t,
                       const struct token_vec *ids)
{
    const struct engine_config cfg = {.memory_limit_bytes = MEMORY_BYTES,
                                      .n_ctx = 32,
                                      .max_num_seqs = 2,
                                      .max_num_batched_tokens = 16};
    struct err err = ERR_INIT;
    struct engine *e;
    struct engine_plan plan;
    int planned = engine_plan(g, &cfg, &plan, &err);
    if (engine_new(g, &cfg, &e, &err) < 0) {
        BUG_ON(!err.code || !err.msg[0]);
        return;
    }
    BUG_ON(planned < 0);
    const uint32_t n_vocab = engine_hparams(e)->n_vocab;
    int32_t prompt[PROMPT_MAX];
    for (uint32_t i = 0; i < PROMPT_MAX; i++)
        prompt[i] = i < ids->len && (uint32_t)ids->ids[i] < n_vocab ? ids->ids[i]
                                                                    : (int32_t)(i * 7 % n_vocab);
    struct engine_request r = {.id = 1, .prompt = prompt, .n_prompt = PROMPT_MAX};
    gen_params_init(&r.params);
    r.params.max_tokens = 3;
    r.params.temperature = n_vocab % 2 ? 0 : 1;
    r.params.has_seed = true;
    unsigned n = 0;
    if (engine_submit(e, &r, &err) == 0) {
        bool more = engine_step(e, on_event, &n);
        try_prepared(g, e, fd);
        while (more)
            more = engine_step(e, on_event, &n);
    }
    BUG_ON(n > 3 || tokenizer_n_vocab(t) > n_vocab);
    engine_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1; /* one for all: creating one costs more than reading one */
    const char *name = "fuzz.gguf";
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    if (gguf_open(&fd, &name, 1, 0, &g, &err) < 0)
        return 0;
    if (tokenizer_from_gguf(g, &t, &err) == 0) {
        struct token_vec ids;
        token_vec_init(&ids, 4096);
        if (tokenizer_has_text(t)) {
            try_chat(g, t, &ids);
            try_text(t, &ids);
        }
        try_engine(g, fd, t, &ids);
        token_vec_release(&ids);
    } else {
        BUG_ON(!err.code || !err.msg[0]);
    }
    tokenizer_free(t);
    gguf_close(g);
    return 0;
}
