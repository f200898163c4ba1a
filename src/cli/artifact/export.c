/* SPDX-License-Identifier: Apache-2.0 */
/* `berth export`, `load` and `import`: models as files, and another program's store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/artifact/out_file.h"
#include "cli/progress.h"
#include "cli/artifact/artifact.h"
#include "cli/table.h"
#include "lib/base/arena.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/oci/manifest.h"

static void tick_progress(void *ctx)
{
    progress_tick(ctx);
}

/* --- export --- */

struct export
{
    struct progress progress;
    int fd;
    uint64_t done, total;
    int error; /* errno of a write */
};

static bool write_piece(void *ctx, const char *p, size_t n)
{
    struct export *x = ctx;
    while (n > 0) {
        ssize_t w = write(x->fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0) {
            x->error = errno;
            return false;
        }
        p += w;
        n -= (size_t)w;
        x->done += (uint64_t)w;
    }
    progress_set(&x->progress, NULL, x->done, x->total);
    return true;
}

/* The bytes of config and layers, for the bar; 0: unknown. */
static uint64_t total_of(const struct client *c, const char *model)
{
    struct err ignored = ERR_INIT;
    struct buf path, text;
    struct arena arena;
    struct oci_manifest m = {.total_bytes = 0};
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_init(&text, LIMIT_OCI_MANIFEST_BYTES);
    arena_init(&arena, 4 * LIMIT_OCI_MANIFEST_BYTES);
    buf_append_str(&path, "/berth/v1/manifest?model=");
    client_escape(&path, model, false);
    if (client_bytes(c, "GET", buf_str(&path), NULL, &text, &ignored) < 0 ||
        oci_manifest_parse((struct str){buf_str(&text), text.len}, &arena, &m, &ignored) < 0)
        m.total_bytes = 0;
    arena_release(&arena);
    buf_release(&text);
    buf_release(&path);
    return m.total_bytes;
}

static int export_to(struct client *c, const char *model, struct export *x, struct err *err)
{
    struct buf path;
    buf_init(&path, LIMIT_PATH_BYTES);
    artifact_path(&path, model, "/export");
    int rc = buf_status(&path, "the model's name", err);
    if (rc == 0)
        rc = client_text(c, buf_str(&path), write_piece, x, err);
    if (x->error)
        rc = err_set(err, E_IO, "writing the model, after %llu bytes: %s",
                     (unsigned long long)x->done, strerror(x->error));
    buf_release(&path);
    return rc;
}

static int export_file(struct client *c, const char *model, const char *file, struct export *x,
                       struct err *err)
{
    struct out_file out;
    if (out_file_open(&out, file, err) < 0)
        return -err->code;
    x->fd = out.fd;
    int rc = export_to(c, model, x, err);
    if (x->error)
        err_wrap(err, "%.256s", file);
    return out_file_close(&out, rc, err);
}

int cmd_export(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct export x = {.fd = STDOUT_FILENO};
    const char *model = a->operands[0], *file = cli_flag(a, "output");
    char what[256], bytes[16];
    bool to_stdout = !file || strcmp(file, "-") == 0;
    if (to_stdout && isatty(STDOUT_FILENO)) {
        err_set(&err, E_INVALID,
                "a model is nothing to look at: say where it goes, as in -o model.tar");
        cli_fail(&err);
        return CLI_USAGE;
    }
    int rc = artifact_client(a, &c, &err);
    if (rc == 0) {
        x.total = total_of(&c, model);
        snprintf(what, sizeof(what), "exporting %s", model);
        progress_begin(&x.progress, what, config_wants_color());
        c.on_tick = tick_progress;
        c.tick_ctx = &x.progress;
        rc = to_stdout ? export_to(&c, model, &x, &err) : export_file(&c, model, file, &x, &err);
        progress_end(&x.progress);
    }
    if (rc == -E_CANCELED)
        return CLI_INTERRUPTED;
    if (rc < 0)
        return cli_fail(&err);
    text_bytes(x.done, bytes);
    if (cli_has(a, "json") && !to_stdout) {
        json_t *j = json_pack("{s:s, s:s?, s:I}", "model", model, "file", file, "bytes",
                              (json_int_t)x.done);
        cli_print_json(j);
        json_decref(j);
    } else if (!to_stdout) {
        printf("%s: %s\n", file, bytes);
    }
    return CLI_OK;
}

/* --- load --- */

struct loading {
    struct transfer transfer;
    int fd;
    uint64_t done, total; /* total 0: unknown */
};

static ssize_t read_piece(void *ctx, char *p, size_t n, struct err *err)
{
    struct loading *l = ctx;
    ssize_t got;
    while ((got = read(l->fd, p, n)) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return err_set_sys(err, E_IO, "reading the model, after %llu bytes",
                           (unsigned long long)l->done);
    l->done += (uint64_t)got;
    transfer_sent(&l->transfer, "all", l->done, MAX_OF(l->total, l->done), l->total);
    return got;
}

/* The daemon's own account of layers is not shown: what is sent is. */
static bool on_load_line(void *ctx, const json_t *line)
{
    struct loading *l = ctx;
    const char *type = answer_text(line, "type");
    if (strcmp(type, "progress") == 0 && l->transfer.style != TRANSFER_JSON)
        return true;
    return transfer_line(&l->transfer, line);
}

static int open_tar(const char *file, struct loading *l, struct err *err)
{
    struct stat st;
    bool is_stdin = !file || strcmp(file, "-") == 0;
    l->fd = is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (l->fd < 0)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO, "opening %.256s", file);
    if (is_stdin && isatty(l->fd))
        return err_set(err, E_INVALID,
                       "there is nothing to load: give a file with -i FILE, or a pipe");
    if (fstat(l->fd, &st) == 0 && S_ISDIR(st.st_mode))
        return err_set(err, E_INVALID,
                       "%.256s is a folder; `berth package --safetensors-dir` packs one", file);
    if (fstat(l->fd, &st) == 0 && S_ISREG(st.st_mode))
        l->total = (uint64_t)st.st_size;
    return 0;
}

int cmd_load(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct loading l = {.fd = -1};
    const char *file = cli_flag(a, "input"), *tag = a->n_operands ? a->operands[0] : NULL;
    int rc = open_tar(file, &l, &err);
    transfer_begin(&l.transfer, cli_has(a, "json") ? TRANSFER_JSON : TRANSFER_BERTH,
                   "loading a model");
    if (rc == 0)
        rc = artifact_client(a, &c, &err);
    if (rc == 0) {
        struct client_upload up = {.read = read_piece,
                                   .ctx = &l,
                                   .bytes = l.total ? l.total : UINT64_MAX,
                                   .type = "application/x-tar"};
        rc = client_lines(&c, "/models/load", NULL, &up, on_load_line, &l, &err);
        if (rc == 0 && !l.transfer.id[0])
            rc = err_set(&err, E_NET, "the daemon broke the loading off; its log says why");
    }
    transfer_end(&l.transfer, rc == 0);
    if (rc == 0 && tag)
        rc = artifact_tag(&c, l.transfer.id, tag, &err);
    if (rc == 0 && !cli_has(a, "json"))
        printf("loaded %s%s%s\n", tag ? tag : "", tag ? "\n" : "", l.transfer.id);
    transfer_release(&l.transfer);
    if (l.fd > STDIN_FILENO)
        close(l.fd);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}

/* --- import --- */

int cmd_import(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct transfer t;
    char real[LIMIT_PATH_BYTES], what[LIMIT_PATH_BYTES + 16];
    if (!realpath(a->operands[0], real)) {
        err_set_sys(&err, E_NOTFOUND, "opening the store %.256s", a->operands[0]);
        return cli_fail(&err);
    }
    snprintf(what, sizeof(what), "importing %s", real);
    transfer_begin(&t, cli_has(a, "json") ? TRANSFER_JSON : TRANSFER_BERTH, what);
    json_t *body = json_pack("{s:s}", "path", real);
    int rc = body ? artifact_client(a, &c, &err)
                  : err_set(&err, E_INVALID, "the path is not valid UTF-8");
    if (rc == 0) {
        c.on_tick = transfer_tick;
        c.tick_ctx = &t;
        rc = client_lines(&c, "/berth/v1/import", body, NULL, transfer_line, &t, &err);
    }
    transfer_end(&t, rc == 0);
    if (rc == 0 && !cli_has(a, "json"))
        printf("%s\n", t.message);
    json_decref(body);
    transfer_release(&t);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}
