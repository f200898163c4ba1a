/* SPDX-License-Identifier: Apache-2.0 */
/* `berth package`: makes an artifact of files, and puts it into the daemon's store, into a tar
 * file, or further into a registry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/artifact/artifact.h"
#include "cli/artifact/pack.h"
#include "cli/artifact/package.h"
#include "cli/chat/interrupt.h"
#include "cli/commands.h"
#include "cli/artifact/out_file.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "lib/sys/file.h"

/* The flag that says what it is made of, of which there is exactly one. */
static const char *source_of(const struct cli_args *a, const char **ret_path, struct err *err)
{
    static const char *const flags[] = {"gguf", "safetensors-dir", "safetensors", "dduf", "from"};
    const char *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (!cli_has(a, flags[i]))
            continue;
        if (found) {
            err_set(err, E_INVALID,
                    "--%s and --%s exclude each other: a model is made of one thing", found,
                    flags[i]);
            return NULL;
        }
        found = flags[i];
        *ret_path = cli_flag(a, found);
    }
    if (!found)
        err_set(err, E_INVALID,
                "say what the model is made of: --gguf FILE, --safetensors-dir DIR, --dduf FILE or "
                "--from MODEL");
    return found;
}

static int add_source(struct pack *p, const struct client *c, const char *source, const char *path,
                      struct err *err)
{
    if (strcmp(source, "gguf") == 0)
        return pack_add_gguf(p, path, err);
    if (strcmp(source, "dduf") == 0)
        return pack_add_file(p, path, NULL, ROLE_DDUF, err);
    if (strcmp(source, "from") == 0)
        return pack_take_model(p, c, path, err);
    return pack_add_folder(p, path, err);
}

/* What no engine could read as a chat template; whether it is one shows when it is used. */
static int check_template(const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, LIMIT_TEMPLATE_BYTES);
    int rc = file_read_regular(path, LIMIT_TEMPLATE_BYTES, &text, err);
    if (rc == 0 && text.len == 0)
        rc = err_set(err, E_INVALID, "--chat-template: %s is empty: it is no chat template", path);
    else if (rc == 0 && !utf8_is_valid((struct str){text.data, text.len}))
        rc = err_set(err, E_INVALID,
                     "--chat-template: %s is not UTF-8 text: it is no chat template", path);
    buf_release(&text);
    return rc;
}

static int add_extras(struct pack *p, const struct cli_args *a, struct err *err)
{
    static const struct {
        const char *flag;
        enum oci_role role;
    } extras[] = {{"chat-template", ROLE_TEMPLATE},
                  {"license", ROLE_LICENSE},
                  {"mmproj", ROLE_MMPROJ},
                  {"lora", ROLE_LORA}};
    for (unsigned i = 0; i < a->n_given; i++) {
        for (size_t k = 0; k < ARRAY_LEN(extras); k++) {
            if (strcmp(a->given[i].flag->name, extras[k].flag) != 0)
                continue;
            if (extras[k].role == ROLE_TEMPLATE && check_template(a->given[i].value, err) < 0)
                return -err->code;
            if (pack_add_file(p, a->given[i].value, NULL, extras[k].role, err) < 0)
                return -err->code;
        }
    }
    return 0;
}

/* SOURCE_DATE_EPOCH, by which builds that must repeat give their time; -1: none, so that the digest
 * is the same whenever it is made. */
static int64_t created_unix(void)
{
    const char *epoch = config_user_env("SOURCE_DATE_EPOCH");
    uint64_t n = 0;
    struct err ignored = ERR_INIT;
    if (!epoch || config_parse_number(epoch, 0, INT32_MAX, &n, &ignored) < 0)
        return -1;
    return (int64_t)n;
}

int package_make(struct pack *p, const struct client *c, const struct cli_args *a, struct err *err)
{
    const char *path = NULL, *format = cli_flag(a, "format"), *source = source_of(a, &path, err);
    bool is_cncf = format && strcmp(format, "cncf") == 0;
    uint64_t context = 0;
    if (!source || cli_number(a, "context-size", 2, LIMIT_MODEL_CONTEXT, &context, err) < 0)
        return -err->code;
    if (format && !is_cncf && strcmp(format, "docker") != 0)
        return err_set(err, E_INVALID, "--format: '%.64s' is neither docker nor cncf", format);
    bool is_from = strcmp(source, "from") == 0;
    if (!is_from)
        oci_package_init(&p->package,
                         oci_package_kind(strcmp(source, "gguf") == 0   ? "gguf"
                                          : strcmp(source, "dduf") == 0 ? "dduf"
                                                                        : "safetensors",
                                          is_cncf));
    if (add_source(p, c, source, path, err) < 0)
        return -err->code;
    if (is_from && format)
        oci_package_convert(&p->package, oci_package_kind(p->package.config.format, is_cncf));
    if (!is_from && pack_probe(p, err) < 0)
        return -err->code;
    if (is_cncf && !cli_has(a, "context-size"))
        p->package.config.context_size = 0;
    if (add_extras(p, a, err) < 0 || pack_hash(p, err) < 0)
        return -err->code;
    if (cli_has(a, "context-size"))
        p->package.config.context_size = (uint32_t)context;
    if (!is_from)
        p->package.config.created_unix = created_unix();
    return pack_build(p, err);
}

/* --- where it goes --- */

struct sending {
    struct transfer *transfer;
    struct pack_stream *stream;
    uint64_t total;
};

static ssize_t read_piece(void *ctx, char *out, size_t n, struct err *err)
{
    struct sending *s = ctx;
    uint64_t done = 0;
    ssize_t got = pack_stream_read(s->stream, out, n, err);
    const struct pack_file *f = pack_stream_at(s->stream, &done);
    if (f)
        transfer_sent(s->transfer, f->digest, done, f->size, s->total);
    return got;
}

/* What the daemon tells of layers is what was sent already. */
static bool on_line(void *ctx, const json_t *line)
{
    struct sending *s = ctx;
    const char *type = json_string_value(json_object_get(line, "type"));
    if (type && strcmp(type, "progress") == 0 && s->transfer->style != TRANSFER_JSON)
        return true;
    return transfer_line(s->transfer, line);
}

int package_load(struct pack *p, struct client *c, enum transfer_style style, struct err *err)
{
    struct transfer t;
    struct sending s = {.transfer = &t};
    transfer_begin(&t, style, "storing the model");
    int rc = pack_stream_new(p, &s.stream, &s.total, err);
    if (rc == 0) {
        struct client_upload up = {read_piece, &s, s.total, "application/x-tar"};
        rc = client_lines(c, "/models/load", NULL, &up, on_line, &s, err);
        pack_stream_free(s.stream);
    }
    transfer_end(&t, rc == 0);
    if (rc == 0 && strcmp(t.id, p->manifest_digest) != 0)
        rc = err_set(err, E_CORRUPT, "the daemon stored %s, and %s was sent",
                     *t.id ? t.id : "nothing", p->manifest_digest);
    transfer_release(&t);
    return rc;
}

/* The same stream into a file. */
static int save(struct pack *p, const char *file, struct err *err)
{
    enum { PIECE = 1 << 20 };
    struct pack_stream *s = NULL;
    struct out_file out;
    uint64_t total = 0, done = 0;
    ssize_t n = 0;
    if (out_file_open(&out, file, err) < 0)
        return -err->code;
    char *piece = mem_alloc(PIECE);
    int rc = pack_stream_new(p, &s, &total, err);
    progress_begin(&p->progress, "writing", config_wants_color());
    while (rc == 0 && (n = pack_stream_read(s, piece, PIECE, err)) > 0) {
        rc = out_file_write(&out, piece, (size_t)n, err);
        if (rc == 0 && interrupt_take())
            rc = err_set(err, E_CANCELED, "interrupted");
        done += (uint64_t)n;
        progress_set(&p->progress, NULL, done, total);
        progress_tick(&p->progress);
    }
    progress_end(&p->progress);
    rc = out_file_close(&out, n < 0 ? (int)n : rc, err);
    if (s)
        pack_stream_free(s);
    mem_free(piece);
    return rc;
}

static void print_done(const struct cli_args *a, const struct pack *p, const char *where)
{
    uint64_t bytes = p->config.len;
    char text[16];
    for (uint32_t i = 0; i < p->package.n_files; i++)
        bytes += p->package.files[i].size;
    if (cli_has(a, "json")) {
        json_t *j = json_pack("{s:s, s:s, s:I}", "id", p->manifest_digest, "name", where, "bytes",
                              (json_int_t)bytes);
        cli_print_json(j);
        json_decref(j);
    } else {
        text_bytes(bytes, text);
        printf("packaged %s (%s)\n%s\n", where, text, p->manifest_digest);
    }
}

static int deliver(const struct cli_args *a, struct pack *p, struct client *c, struct err *err)
{
    const char *file = cli_flag(a, "output"), *name = a->n_operands ? a->operands[0] : NULL;
    if (file)
        return save(p, file, err);
    enum transfer_style style = cli_has(a, "json") ? TRANSFER_QUIET : TRANSFER_BERTH;
    if (package_load(p, c, style, err) < 0 || artifact_tag(c, p->manifest_digest, name, err) < 0)
        return -err->code;
    if (!cli_has(a, "push"))
        return 0;
    struct transfer t;
    int rc = artifact_push(c, name, style, &t, err);
    transfer_release(&t);
    return rc;
}

int cmd_package(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct pack p;
    const char *file = cli_flag(a, "output");
    int rc = 0;
    if (!file == !a->n_operands || (file && cli_has(a, "push"))) {
        err_set(&err, E_INVALID, "%s",
                file ? "-o FILE goes without a name and without --push: a tar file holds no name"
                     : "say how the model is called: `berth package ... NAME`, or -o FILE for a "
                       "tar file");
        cli_fail(&err);
        return CLI_USAGE;
    }
    pack_init(&p);
    rc = interrupt_start(&err);
    /* What is wrong with the files is told before a daemon is started for them. */
    if (rc == 0 && cli_has(a, "from"))
        rc = artifact_client(a, &c, &err);
    if (rc == 0)
        rc = package_make(&p, &c, a, &err);
    if (rc == 0 && !file && !cli_has(a, "from"))
        rc = artifact_client(a, &c, &err);
    if (rc == 0)
        rc = deliver(a, &p, &c, &err);
    if (rc == 0)
        print_done(a, &p, file ? file : a->operands[0]);
    pack_release(&p);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}
