/* SPDX-License-Identifier: Apache-2.0 */
/* `berth df`: what berth's files take on disk, by folder. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"

#define DEPTH_MAX 8

struct usage {
    uint64_t n_files, bytes; /* bytes that the disk gives, holes not counted */
};

enum what { ALL_FILES, MODEL_FILES, LOG_FILES, OTHER_FILES };

static bool counts(enum what what, const char *name)
{
    bool is_model = str_has_suffix(str_from(name), STR_LIT(".gguf"));
    bool is_log = strstr(name, ".log") != NULL;
    switch (what) {
    case MODEL_FILES: return is_model;
    case LOG_FILES: return is_log;
    case OTHER_FILES: return !is_log;
    case ALL_FILES: break;
    }
    return true;
}

/* Adds up the regular files of a folder; links are not followed. */
static void add_folder(int at, const char *path, enum what what, int depth, struct usage *ret)
{
    int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode) && counts(what, e->d_name)) {
            ret->n_files++;
            ret->bytes += (uint64_t)st.st_blocks * 512;
        } else if (S_ISDIR(st.st_mode) && depth + 1 < DEPTH_MAX) {
            add_folder(fd, e->d_name, what, depth + 1, ret);
        }
    }
    if (d)
        closedir(d);
}

struct report {
    struct table table;
    json_t *rows; /* owned */
    uint64_t total;
};

/* Returns the row for JSON, r's; NULL where the path is not UTF-8.  there: free_bytes is known. */
static json_t *put_row(struct report *r, const char *type, struct usage u, bool there,
                       uint64_t free_bytes, const char *path)
{
    table_add(&r->table, type);
    table_add_number(&r->table, u.n_files);
    table_add_bytes(&r->table, u.bytes);
    if (there)
        table_add_bytes(&r->table, free_bytes);
    else
        table_add(&r->table, "-");
    table_add(&r->table, path);
    r->total += u.bytes;
    json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:b, s:s}", "type", type, "files",
                            (json_int_t)u.n_files, "bytes", (json_int_t)u.bytes, "free_bytes",
                            (json_int_t)free_bytes, "exists", there, "path", path);
    if (row)
        json_array_append_new(r->rows, row);
    return row;
}

static void add_row(struct report *r, const char *type, const char *path, enum what what)
{
    struct usage u = {0, 0};
    struct statvfs fs;
    uint64_t free_bytes = 0;
    add_folder(AT_FDCWD, path, what, what == MODEL_FILES ? DEPTH_MAX : 0, &u);
    bool there = statvfs(path, &fs) == 0;
    if (there)
        free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    put_row(r, type, u, there, free_bytes, path);
}

/* Weights in their kernels' layout, which the store keeps beside its blobs. */
static void add_prepared(struct report *r, const json_t *df)
{
    const struct usage u = {answer_number(df, "prepared"), answer_number(df, "prepared_bytes")};
    struct buf path;
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_printf(&path, "%s/prepared", answer_text(df, "store"));
    put_row(r, "prepared", u, true, answer_number(df, "free_bytes"), buf_str(&path));
    buf_release(&path);
}

/* The daemon's store, as it tells it. */
static void add_store(struct report *r, const struct client *c)
{
    struct err ignored = ERR_INIT;
    json_t *df = NULL;
    if (client_json(c, "GET", "/berth/v1/df", NULL, &df, &ignored) < 0 ||
        !*answer_text(df, "store")) {
        json_decref(df);
        return;
    }
    const struct usage u = {
        answer_number(df, "blobs") + answer_number(df, "partial"),
        answer_number(df, "blob_bytes") + answer_number(df, "partial_bytes"),
    };
    json_t *row =
        put_row(r, "store", u, true, answer_number(df, "free_bytes"), answer_text(df, "store"));
    static const char *const more[] = {"unused_bytes", "partial_bytes"};
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        json_object_set_new(row, more[i], json_integer((json_int_t)answer_number(df, more[i])));
    add_prepared(r, df);
    json_decref(df);
}

/* The folders of models: the daemon's where one runs on this machine, else those that one started
 * now would have. */
static void add_models(struct report *r, const json_t *status, const char *dirs)
{
    size_t i;
    const json_t *d;
    json_array_foreach(json_object_get(status, "models_dirs"), i, d)
        add_row(r, "models", json_string_value(d), MODEL_FILES);
    for (const char *s = status ? "" : dirs; *s;) {
        size_t n = strcspn(s, ":");
        struct buf dir;
        buf_init(&dir, LIMIT_PATH_BYTES);
        if (n && buf_append(&dir, s, n) == 0)
            add_row(r, "models", buf_str(&dir), MODEL_FILES);
        buf_release(&dir);
        s += n + (s[n] == ':');
    }
}

int cmd_df(const struct cli_args *a)
{
    static const char *const titles[] = {"TYPE", "FILES", "SIZE", "FREE", "FOLDER"};
    struct err err = ERR_INIT, ignored = ERR_INIT;
    struct client c;
    struct report r = {.rows = json_array()};
    struct buf state;
    json_t *status = NULL;
    table_init(&r.table, titles, ARRAY_LEN(titles));
    buf_init(&state, LIMIT_PATH_BYTES);
    bool asks = client_init(&c, &a->config, &ignored) == 0 && client_probe(&c, &ignored) == 1;
    if (asks && client_json(&c, "GET", "/berth/v1/status", NULL, &status, &ignored) < 0)
        status = NULL;
    if (status)
        add_store(&r, &c);
    add_models(&r, status, config_str(&a->config, CONFIG_models_dir));
    int rc = config_state_dir(&state, &err);
    if (rc == 0) {
        add_row(&r, "logs", buf_str(&state), LOG_FILES);
        add_row(&r, "state", buf_str(&state), OTHER_FILES);
    }
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = json_pack("{s:O, s:I}", "rows", r.rows, "total_bytes", (json_int_t)r.total);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        table_print(&r.table);
    }
    table_release(&r.table);
    json_decref(r.rows);
    json_decref(status);
    buf_release(&state);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
