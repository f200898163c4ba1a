/* SPDX-License-Identifier: Apache-2.0 */
/* Implements pack.h but for the tar: finding files, and describing them. */
#include "cli/artifact/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/artifact/artifact.h"
#include "cli/chat/interrupt.h"
#include "cli/models.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/ipc/probe.h"
#include "lib/oci/sha256.h"

#define FOLDER_DEPTH 8
#define PIECE_BYTES  (1u << 20)
#define ARENA_BYTES  (256u << 20)

void pack_init(struct pack *p)
{
    *p = (struct pack){.n_files = 0};
    arena_init(&p->arena, ARENA_BYTES);
    buf_init(&p->config, LIMIT_OCI_MANIFEST_BYTES);
    buf_init(&p->manifest, LIMIT_OCI_MANIFEST_BYTES);
}

void pack_release(struct pack *p)
{
    for (unsigned i = 0; i < p->n_files; i++) {
        mem_free(p->files[i].path);
        mem_free(p->files[i].name);
        close(p->files[i].fd);
    }
    mem_free(p->files);
    buf_release(&p->config);
    buf_release(&p->manifest);
    arena_release(&p->arena);
}

/* --- finding files --- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int pack_add_file(struct pack *p, const char *path, const char *name, enum oci_role role,
                  struct err *err)
{
    struct stat st;
    if (p->n_files == PACK_MAX_FILES)
        return err_set(err, E_LIMIT, "a model has at most %u files", PACK_MAX_FILES);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO, "opening %.256s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, E_INVALID, "%.256s is %s, and no file", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    if (p->n_files == p->n_held) {
        unsigned n = p->n_held ? p->n_held * 2 : 16;
        struct pack_file *more = mem_try_resize(p->files, n, sizeof(*more), err);
        if (!more) {
            close(fd);
            return -err->code;
        }
        p->files = more;
        p->n_held = n;
    }
    name = name ? name : base_name(path);
    p->files[p->n_files++] =
        (struct pack_file){.path = mem_dup(path, strlen(path)),
                           .name = mem_dup(name, strlen(name)),
                           .role = role == ROLE_UNKNOWN ? oci_role_of_name(name) : role,
                           .fd = fd,
                           .size = (uint64_t)st.st_size};
    return 0;
}

/* "-00001-of-00003.gguf" at the end of a path: how many parts; 0: it is whole.  part: which one. */
static unsigned parts_of(const char *path, unsigned *ret_part)
{
    size_t n = strlen(path), n_end = strlen("-00001-of-00003.gguf");
    unsigned part = 0, parts = 0;
    int len = 0;
    if (n <= n_end || sscanf(path + n - n_end, "-%5u-of-%5u.gguf%n", &part, &parts, &len) != 2 ||
        (size_t)len != n_end)
        return 0;
    *ret_part = part;
    return parts;
}

int pack_add_gguf(struct pack *p, const char *path, struct err *err)
{
    unsigned part = 0, parts = parts_of(path, &part);
    size_t n = strlen(path) - strlen("-00001-of-00003.gguf");
    if (!parts)
        return pack_add_file(p, path, NULL, ROLE_GGUF, err);
    if (part != 1)
        return err_set(err, E_INVALID,
                       "%.256s is part %u of %u: give the first, the others are found beside it",
                       path, part, parts);
    for (unsigned i = 1; i <= parts; i++) {
        char other[LIMIT_PATH_BYTES];
        snprintf(other, sizeof(other), "%.*s-%05u-of-%05u.gguf", (int)n, path, i, parts);
        if (pack_add_file(p, other, NULL, ROLE_GGUF, err) < 0)
            return -err->code;
    }
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted (owned by the caller). */
static int names_of(const char *path, char ***ret, size_t *ret_n, struct err *err)
{
    DIR *d = opendir(path);
    const struct dirent *e;
    char **names = NULL;
    size_t n = 0, held = 0;
    if (!d)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO, "opening the folder %.256s",
                           path);
    while ((e = readdir(d)) && n < PACK_MAX_FILES) {
        if (e->d_name[0] == '.') /* ".git", ".cache", and what else is not of the model */
            continue;
        if (n == held) {
            held = held ? held * 2 : 64;
            names = mem_try_resize(names, held, sizeof(*names), err);
            BUG_ON(!names);
        }
        names[n++] = mem_dup(e->d_name, strlen(e->d_name));
    }
    closedir(d);
    qsort(names, n, sizeof(*names), by_text);
    *ret = names;
    *ret_n = n;
    return 0;
}

static int add_folder(struct pack *p, const char *path, const char *inside, int depth,
                      struct err *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = names_of(path, &names, &n, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct buf full, name;
        struct stat st;
        buf_init(&full, LIMIT_PATH_BYTES - 1);
        buf_init(&name, LIMIT_OCI_PATH_BYTES);
        buf_printf(&full, "%s/%s", path, names[i]);
        buf_printf(&name, "%s%s%s", inside, *inside ? "/" : "", names[i]);
        rc = buf_status(&full, "a path", err);
        if (rc == 0)
            rc = buf_status(&name, "a path inside the model", err);
        /* Links to files are followed: hubs' own folders are made of them. */
        if (rc == 0 && stat(buf_str(&full), &st) < 0)
            rc = err_set_sys(err, E_IO, "looking at %.256s", buf_str(&full));
        if (rc == 0 && S_ISDIR(st.st_mode)) {
            struct stat link;
            bool is_link = lstat(buf_str(&full), &link) == 0 && S_ISLNK(link.st_mode);
            if (is_link)
                rc = err_set(err, E_INVALID, "%.256s is a link to a folder", buf_str(&full));
            else if (depth + 1 == FOLDER_DEPTH)
                rc = err_set(err, E_LIMIT, "%.256s lies deeper than %d folders", buf_str(&full),
                             FOLDER_DEPTH);
            else
                rc = add_folder(p, buf_str(&full), buf_str(&name), depth + 1, err);
        } else if (rc == 0) {
            rc = pack_add_file(p, buf_str(&full), buf_str(&name), ROLE_UNKNOWN, err);
        }
        buf_release(&full);
        buf_release(&name);
    }
    for (size_t i = 0; i < n; i++)
        mem_free(names[i]);
    mem_free(names);
    return rc;
}

int pack_add_folder(struct pack *p, const char *path, struct err *err)
{
    p->is_folder = true;
    return add_folder(p, path, "", 0, err);
}

/* --- a stored model --- */

/* A whole config from what GET /models tells of it: Docker's inner object gets its frame again; the
 * digests of unpacked layers are those of the layers. */
static int frame_config(struct pack *p, const json_t *inner, const struct oci_manifest *m,
                        struct buf *out, struct err *err)
{
    bool is_pack = json_is_object(json_object_get(inner, "modelfs"));
    (void)p;
    if (is_pack) {
        json_put_value(out, inner);
        return buf_status(out, "the model's config", err);
    }
    buf_append_str(out, "{\"config\":");
    json_put_value(out, inner);
    buf_append_str(out, ",\"rootfs\":{\"type\":\"rootfs\",\"diff_ids\":[");
    for (uint32_t i = 0; i < m->n_layers; i++)
        buf_printf(out, "%s\"%s\"", i ? "," : "", m->layers[i].digest);
    buf_append_str(out, "]}}");
    return buf_status(out, "the model's config", err);
}

int pack_take_model(struct pack *p, const struct client *c, const char *model, struct err *err)
{
    struct buf path, manifest, config;
    struct oci_manifest m;
    json_t *known = NULL;
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_init(&manifest, LIMIT_OCI_MANIFEST_BYTES);
    buf_init(&config, LIMIT_OCI_MANIFEST_BYTES);
    buf_append_str(&path, "/berth/v1/manifest?model=");
    client_escape(&path, model, false);
    int rc = artifact_model(c, model, false, &known, err);
    if (rc == 0)
        rc = client_bytes(c, "GET", buf_str(&path), NULL, &manifest, err);
    struct str text = {buf_str(&manifest), manifest.len};
    if (rc == 0)
        rc = oci_manifest_parse(text, &p->arena, &m, err);
    if (rc == 0)
        rc = frame_config(p, json_object_get(known, "config"), &m, &config, err);
    if (rc == 0)
        rc = oci_package_from(text, (struct str){buf_str(&config), config.len}, &p->arena,
                              &p->package, err);
    json_decref(known);
    buf_release(&config);
    buf_release(&manifest);
    buf_release(&path);
    return rc;
}

/* --- describing --- */

static int take_facts(struct pack *p, const struct probe_facts *f, struct err *err)
{
    struct oci_config *c = &p->package.config;
    char count[OCI_HUMAN_CHARS] = "", bytes[OCI_HUMAN_CHARS];
    struct oci_pair *pairs = arena_try_alloc(&p->arena, (f->n_metadata + 1) * sizeof(*pairs), err);
    if (!pairs)
        return -err->code;
    if (f->n_params)
        oci_put_human_count(f->n_params, count);
    oci_put_human_bytes(f->weight_bytes, bytes);
    c->format = f->format;
    c->architecture = f->architecture;
    c->quantization = f->quantization;
    c->parameters = arena_try_dup(&p->arena, count, strlen(count), err);
    c->size = arena_try_dup(&p->arena, bytes, strlen(bytes), err);
    c->context_size = f->context_size;
    if (!c->parameters || !c->size)
        return -err->code;
    for (uint32_t i = 0; i < f->n_metadata; i++)
        pairs[i] = (struct oci_pair){f->metadata[i].key, f->metadata[i].value};
    struct oci_pairs all = {pairs, f->n_metadata};
    if (strcmp(f->format, "gguf") == 0)
        c->gguf = all;
    else if (strcmp(f->format, "safetensors") == 0)
        c->safetensors = all;
    else
        c->diffusers = all;
    return 0;
}

int pack_probe(struct pack *p, struct err *err)
{
    struct probe_facts facts;
    struct probe_file *files = mem_try_alloc(p->n_files + 1, sizeof(*files), err);
    uint32_t n = 0;
    if (!files)
        return -err->code;
    for (unsigned i = 0; i < p->n_files; i++) {
        if (probe_wants(p->files[i].name))
            files[n++] = (struct probe_file){p->files[i].fd, p->files[i].name};
    }
    int rc = n ? probe_run(files, n, &p->arena, &facts, err)
               : err_set(err, E_NOTFOUND,
                         "there are no weights here: no .gguf, .safetensors or .dduf file");
    if (rc == 0)
        rc = take_facts(p, &facts, err);
    mem_free(files);
    return rc;
}

static int hash_file(struct pack *p, struct pack_file *f, uint64_t *done, uint64_t total,
                     char *piece, struct err *err)
{
    struct sha256 s;
    uint64_t at = 0;
    sha256_init(&s);
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    while (at < f->size) {
        ssize_t n = pread(f->fd, piece, MIN_OF(PIECE_BYTES, f->size - at), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0
                       ? err_set_sys(err, E_IO, "reading %.256s", f->path)
                       : err_set(err, E_IO, "%.256s has become shorter while it was read", f->path);
        sha256_add(&s, piece, (size_t)n);
        at += (uint64_t)n;
        *done += (uint64_t)n;
        progress_set(&p->progress, NULL, *done, total);
        progress_tick(&p->progress);
        if (interrupt_take())
            return err_set(err, E_CANCELED, "interrupted");
    }
    sha256_end(&s, f->digest);
    return 0;
}

int pack_hash(struct pack *p, struct err *err)
{
    uint64_t total = 0, done = 0;
    char *piece = mem_try_alloc(PIECE_BYTES, 1, err);
    int rc = piece ? 0 : -err->code;
    for (unsigned i = 0; i < p->n_files; i++)
        total += p->files[i].size;
    progress_begin(&p->progress, "hashing", config_wants_color());
    for (unsigned i = 0; rc == 0 && i < p->n_files; i++) {
        struct pack_file *f = &p->files[i];
        rc = hash_file(p, f, &done, total, piece, err);
        struct oci_file file = {.path = f->name, .role = f->role, .size = f->size};
        snprintf(file.digest, sizeof(file.digest), "%s", f->digest);
        if (rc == 0)
            rc = oci_package_add(&p->package, &file, &p->arena, err);
    }
    progress_end(&p->progress);
    mem_free(piece);
    return rc;
}

static void digest_of(const struct buf *b, char ret[OCI_DIGEST_CHARS + 1])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_add(&s, buf_str(b), b->len);
    sha256_end(&s, ret);
}

int pack_build(struct pack *p, struct err *err)
{
    buf_release(&p->config);
    buf_release(&p->manifest);
    int rc = oci_package_build(&p->package, &p->arena, &p->config, &p->manifest, err);
    if (rc == 0) {
        digest_of(&p->config, p->config_digest);
        digest_of(&p->manifest, p->manifest_digest);
    }
    return rc;
}
