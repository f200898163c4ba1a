/* SPDX-License-Identifier: Apache-2.0 */
/* Implements debug.h: what every debug command shares (files first, then the sandbox), and the ones
 * about text.  Those about the model itself are in debug_model.c. */
#include "worker/serve/debug.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/sys/file.h"
#include "lib/sys/sandbox.h"
#include "worker/serve/debug_impl.h"
#include "worker/text/jinja.h"
#include "worker/text/tokenizer.h"

int debug_write(int fd, const void *data, size_t n, struct err *err)
{
    const char *p = data;
    while (n) {
        ssize_t done = write(fd, p, MIN_OF(n, (size_t)1 << 30));
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return err_set_sys(err, E_IO, "writing the result");
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int shut_in(struct err *err)
{
    struct sandbox_report report;
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return sandbox_apply_self(SANDBOX_DEBUG, memory, &report, err);
}

int debug_ids_read(struct str text, struct debug_ids *ret, struct err *err)
{
    /* An id and what separates it take two bytes. */
    *ret = (struct debug_ids){.ids = mem_try_alloc(text.len / 2 + 1, sizeof(*ret->ids), err)};
    if (!ret->ids)
        return -err->code;
    for (size_t i = 0; i < text.len;) {
        char c = text.p[i];
        if (c == ',' || c == ' ' || c == '\n' || c == '\t' || c == '\r') {
            i++;
            continue;
        }
        int64_t id = 0;
        size_t start = i;
        while (i < text.len && text.p[i] >= '0' && text.p[i] <= '9' && id <= INT32_MAX)
            id = id * 10 + (text.p[i++] - '0');
        if (i == start || id > INT32_MAX)
            return err_set(err, E_INVALID,
                           "'%.*s' is not a token id: whole numbers from 0, separated by commas",
                           (int)MIN_OF(text.len - start, 16), text.p + start);
        ret->ids[ret->n++] = (int32_t)id;
    }
    return ret->n ? 0 : err_set(err, E_INVALID, "no token ids were given");
}

static int tokenize(const struct debug_request *r, const struct tokenizer *t, struct str input,
                    struct err *err)
{
    struct token_vec ids;
    struct buf out;
    token_vec_init(&ids, LIMIT_TEXT_BYTES);
    buf_init(&out, (size_t)12 * LIMIT_TEXT_BYTES);
    int rc = tokenizer_encode(t, input, r->with_special ? TOK_ADD_SPECIAL | TOK_PARSE_SPECIAL : 0,
                              &ids, err);
    for (size_t i = 0; rc == 0 && i < ids.len; i++)
        buf_printf(&out, "%s%d", i ? " " : "", ids.ids[i]);
    buf_append_char(&out, '\n');
    if (rc == 0)
        rc = buf_status(&out, "the ids", err);
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, out.data, out.len, err);
    buf_release(&out);
    token_vec_release(&ids);
    return rc;
}

static int detokenize(const struct debug_request *r, const struct tokenizer *t, struct str input,
                      struct err *err)
{
    struct debug_ids ids;
    struct buf out;
    buf_init(&out, (size_t)16 * LIMIT_TEXT_BYTES);
    int rc = debug_ids_read(input, &ids, err);
    if (rc == 0)
        rc = tokenizer_decode(t, ids.ids, ids.n, r->with_special, &out, err);
    if (rc == 0)
        rc = buf_status(&out, "the text", err);
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, out.data, out.len, err);
    buf_release(&out);
    mem_free(ids.ids);
    return rc;
}

/* tokenize and detokenize: input is the text, or the ids. */
static int debug_text(const struct debug_request *r, struct str input, struct err *err)
{
    struct model_files files;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    int rc = debug_open(r->path, &files, err);
    if (rc == 0)
        rc = shut_in(err);
    if (rc == 0)
        rc = gguf_open(files.fds, (const char *const *)files.paths, files.n, GGUF_HEADER_ONLY, &g,
                       err);
    if (rc == 0)
        rc = tokenizer_from_gguf(g, &t, err);
    if (rc == 0)
        rc = r->what == DEBUG_TOKENIZE ? tokenize(r, t, input, err) : detokenize(r, t, input, err);
    tokenizer_free(t);
    gguf_close(g);
    model_files_close(&files);
    return rc;
}

static int render(const struct debug_request *r, struct str context_text, struct err *err)
{
    struct buf source;
    struct jinja *j = NULL;
    json_t *context = NULL;
    struct jinja_output out;
    jinja_output_init(&out);
    int rc = file_read_all(r->path, LIMIT_TEMPLATE_BYTES, &source, err);
    if (rc == 0)
        rc = shut_in(err);
    if (rc == 0 && json_parse(context_text, &context, err) < 0)
        rc = err_wrap(err, "the context %.200s", r->input_path);
    if (rc == 0 && !json_is_object(context))
        rc = err_set(err, E_INVALID, "the context %.200s is not a JSON object", r->input_path);
    if (rc == 0)
        rc = jinja_compile((struct str){buf_str(&source), source.len}, &j, err);
    if (rc == 0) {
        struct jinja_options opt = {.context = context, .now_unix = r->now_unix};
        rc = jinja_render(j, &opt, &out, err);
    }
    if (rc == 0)
        rc = debug_write(STDOUT_FILENO, buf_str(&out.text), out.text.len, err);
    jinja_output_release(&out);
    jinja_free(j);
    json_decref(context);
    buf_release(&source);
    return rc;
}

int debug_main(const struct debug_request *r, struct err *err)
{
    struct buf input;
    buf_init(&input, LIMIT_TEXT_BYTES);
    int rc = r->input_path ? file_read_all(r->input_path, LIMIT_TEXT_BYTES, &input, err) : 0;
    struct str text = r->tokens ? str_from(r->tokens) : (struct str){buf_str(&input), input.len};
    if (rc == 0) {
        switch (r->what) {
        case DEBUG_TOKENIZE:
        case DEBUG_DETOKENIZE: rc = debug_text(r, text, err); break;
        case DEBUG_RENDER: rc = render(r, text, err); break;
        case DEBUG_LOGITS:
        case DEBUG_SHOW:
        case DEBUG_PLAN: rc = debug_model(r, shut_in, err); break;
        }
    }
    buf_release(&input);
    return rc;
}
