/* SPDX-License-Identifier: Apache-2.0 */
/* Implements model.h but for the unpacking of archives. */
#include "daemon/store/model.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define MODEL_ARENA_BYTES (64u << 20)

/* ---- reading ---- */

static int text_take(struct store *s, const char *digest, size_t max, struct arena *a,
                     struct str *ret, struct err *err)
{
    struct buf b;
    int rc = store_blob_read(s, digest, max, &b, err);
    if (rc == 0) {
        ret->p = arena_try_dup(a, b.data, b.len, err);
        ret->len = b.len;
        rc = ret->p ? 0 : -err->code;
    }
    buf_release(&b);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Straight from the index, of which a list would copy every entry for each model. */
static int names_take(struct store *s, struct store_model *m, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    int rc = index_refresh(s, err);
    const size_t n = rc == 0 ? index_len(s->index) : 0;
    m->names = arena_try_alloc(&m->arena, MAX_OF(n, 1) * sizeof(*m->names), err);
    if (!m->names)
        rc = -err->code;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const char *name = index_name_of(s->index, i, m->digest);
        if (!name || !name[0])
            continue;
        m->names[m->n_names] = arena_try_dup(&m->arena, name, strlen(name), err);
        rc = m->names[m->n_names] ? 0 : -err->code;
        m->n_names += rc == 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        qsort(m->names, m->n_names, sizeof(*m->names), compare_names);
    return rc;
}

static const char *format_of(enum oci_role role)
{
    return role == ROLE_GGUF          ? "gguf"
           : role == ROLE_SAFETENSORS ? "safetensors"
           : role == ROLE_DDUF        ? "dduf"
                                      : NULL;
}

/* The layers know better than the config, which calls a DDUF file by either of two names. */
static void format_take(struct store_model *m)
{
    m->format = m->config.format;
    for (uint32_t i = 0; i < m->manifest.n_layers; i++) {
        const char *f = format_of(m->manifest.layers[i].role);
        if (f)
            m->format = f;
    }
}

int store_model_read(struct store *s, const char *digest, struct store_model *ret, struct err *err)
{
    struct stat st;
    *ret = (struct store_model){0};
    arena_init(&ret->arena, MODEL_ARENA_BYTES);
    memcpy(ret->digest, digest, sizeof(ret->digest));
    int rc = text_take(s, digest, LIMIT_OCI_MANIFEST_BYTES, &ret->arena, &ret->manifest_text, err);
    if (rc == 0)
        rc = oci_manifest_parse(ret->manifest_text, &ret->arena, &ret->manifest, err);
    if (rc == 0)
        rc = oci_manifest_check_model(&ret->manifest, err);
    if (rc == 0)
        rc = text_take(s, ret->manifest.config.digest, LIMIT_OCI_CONFIG_BYTES, &ret->arena,
                       &ret->config_text, err);
    if (rc == 0)
        rc = oci_config_parse(ret->config_text, ret->manifest.config.media, &ret->arena,
                              &ret->config, err);
    if (rc == 0)
        rc = names_take(s, ret, err);
    if (rc < 0)
        return err_wrap(err, "model %s", digest);
    format_take(ret);
    ret->total_bytes = ret->manifest.total_bytes + ret->manifest_text.len;
    ret->created_unix = ret->config.created_unix;
    if (ret->created_unix < 0 && fstatat(s->blobs_fd, digest_hex(digest), &st, 0) == 0)
        ret->created_unix = (int64_t)st.st_mtim.tv_sec;
    return 0;
}

void store_model_release(struct store_model *m)
{
    arena_release(&m->arena);
    *m = (struct store_model){0};
}

/* ---- files ---- */

/* How many layers have this role, and the how manieth this one is. */
static void place_of(const struct oci_manifest *m, uint32_t i, uint32_t *ret_no, uint32_t *ret_n)
{
    *ret_no = *ret_n = 0;
    for (uint32_t j = 0; j < m->n_layers; j++) {
        if (m->layers[j].role != m->layers[i].role)
            continue;
        *ret_no += j <= i;
        ++*ret_n;
    }
}

/* As bundles of v0.1 call it, which know no paths. */
static const char *role_path(const struct oci_manifest *m, uint32_t i, struct arena *a,
                             struct err *err)
{
    static const struct {
        enum oci_role role;
        const char *stem, *ending;
    } names[] = {{ROLE_GGUF, "model", ".gguf"},         {ROLE_SAFETENSORS, "model", ".safetensors"},
                 {ROLE_DDUF, "model", ".dduf"},         {ROLE_MMPROJ, "model", ".mmproj"},
                 {ROLE_TEMPLATE, "template", ".jinja"}, {ROLE_LORA, "lora", ".gguf"},
                 {ROLE_LICENSE, "LICENSE", ""}};
    uint32_t no, n;
    char path[64];
    place_of(m, i, &no, &n);
    const char *stem = "layer", *ending = "";
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        if (names[k].role == m->layers[i].role) {
            stem = names[k].stem;
            ending = names[k].ending;
        }
    }
    if (n > 1)
        snprintf(path, sizeof(path), "%s-%05u-of-%05u%s", stem, no, n, ending);
    else
        snprintf(path, sizeof(path), "%s%s", stem, ending);
    return arena_try_dup(a, path, strlen(path), err);
}

static bool is_named_by_role(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_MMPROJ ||
           role == ROLE_TEMPLATE;
}

static bool is_path_shared(const struct oci_manifest *m, uint32_t i)
{
    for (uint32_t j = 0; j < m->n_layers; j++) {
        if (j != i && m->layers[j].path && strcmp(m->layers[i].path, m->layers[j].path) == 0)
            return true;
    }
    return false;
}

static int raw_file(struct store_model *m, uint32_t i, struct store_file *ret, struct err *err)
{
    const struct oci_descriptor *d = &m->manifest.layers[i];
    bool by_role = m->config.kind == OCI_CONFIG_DOCKER_V01 &&
                   (is_named_by_role(d->role) || (d->path && is_path_shared(&m->manifest, i)));
    *ret = (struct store_file){.path = d->path, .role = d->role, .size = d->size};
    memcpy(ret->digest, d->digest, sizeof(ret->digest));
    if (!d->path || by_role)
        ret->path = role_path(&m->manifest, i, &m->arena, err);
    return ret->path ? 0 : -err->code;
}

static uint32_t rank_of(enum oci_role role)
{
    return role == ROLE_GGUF || role == ROLE_SAFETENSORS || role == ROLE_DDUF ? 0
           : role == ROLE_MMPROJ                                              ? 1
           : role == ROLE_TEMPLATE                                            ? 2
           : role == ROLE_LORA                                                ? 3
           : role == ROLE_FILE                                                ? 4
                                                                              : 5;
}

/* Stable: files of a rank keep the manifest's order, but for shards that name their place. */
static void files_sort(struct store_model *m)
{
    for (uint32_t i = 1; i < m->n_files; i++) {
        struct store_file f = m->files[i];
        uint32_t j = i;
        while (j > 0) {
            const struct store_file *before = &m->files[j - 1];
            uint32_t a = rank_of(before->role), b = rank_of(f.role);
            bool is_shard =
                a == 0 && b == 0 && strstr(f.path, "-of-") && strstr(before->path, "-of-");
            if (a < b || (a == b && !(is_shard && strcmp(before->path, f.path) > 0)))
                break;
            m->files[j] = *before;
            j--;
        }
        m->files[j] = f;
    }
}

static int files_check(const struct store_model *m, struct err *err)
{
    const char *found = NULL;
    for (uint32_t i = 0; i < m->n_files; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(m->files[i].path, m->files[j].path) == 0)
                return err_set(err, E_FORMAT, "two of its files are called '%s'", m->files[i].path);
        }
        const char *f = format_of(m->files[i].role);
        if (f && found && strcmp(f, found) != 0)
            return err_set(err, E_UNSUPPORTED, "it mixes weights of two formats, %s and %s", found,
                           f);
        found = f ? f : found;
    }
    return found ? 0 : err_set(err, E_UNSUPPORTED, "it has no weights that berth knows");
}

/* Appends; the arena keeps the old table, which is small. */
static int files_append(struct store_model *m, const struct store_file *f, uint32_t n,
                        struct err *err)
{
    if (n > LIMIT_OCI_LAYERS - MIN_OF(m->n_files, LIMIT_OCI_LAYERS))
        return err_set(err, E_LIMIT, "it has more than %u files", LIMIT_OCI_LAYERS);
    struct store_file *more =
        arena_try_alloc(&m->arena, ((size_t)m->n_files + n) * sizeof(*more), err);
    if (!more)
        return -err->code;
    if (m->n_files)
        memcpy(more, m->files, m->n_files * sizeof(*more));
    memcpy(more + m->n_files, f, n * sizeof(*more));
    m->files = more;
    m->n_files += n;
    return 0;
}

static bool is_for_running(const struct oci_descriptor *d)
{
    return d->role != ROLE_CODE && d->role != ROLE_DATASET;
}

bool store_model_is_packed(struct store *s, struct store_model *m)
{
    bool ret = false;
    for (uint32_t i = 0; !ret && i < m->manifest.n_layers; i++) {
        const struct oci_descriptor *d = &m->manifest.layers[i];
        struct unpacked u = {0};
        ret = oci_media_packing(d->media) != PACKING_RAW && is_for_running(d) &&
              !unpacked_find(s, d, &m->arena, &u);
    }
    return ret;
}

int store_model_files(struct store *s, struct store_model *m, struct err *err)
{
    struct store_file *raw =
        arena_try_alloc(&m->arena, MAX_OF(m->manifest.n_layers, 1) * sizeof(*raw), err);
    uint32_t n_raw = 0;
    int rc = raw ? 0 : -err->code;
    if (m->files)
        return 0;
    for (uint32_t i = 0; rc == 0 && i < m->manifest.n_layers; i++) {
        const struct oci_descriptor *d = &m->manifest.layers[i];
        bool is_run = is_for_running(d);
        if (oci_media_packing(d->media) == PACKING_RAW) {
            rc = raw_file(m, i, &raw[n_raw++], err);
        } else if (is_run) {
            struct unpacked u = {0};
            rc = unpacked_get(s, d, &m->arena, m->is_called_off, &u, err);
            if (rc == 0)
                rc = files_append(m, u.files, u.n_files, err);
        }
    }
    if (rc == 0)
        rc = files_append(m, raw, n_raw, err);
    if (rc == 0) {
        files_sort(m);
        rc = files_check(m, err);
    }
    if (rc < 0) {
        m->files = NULL;
        m->n_files = 0;
        return err_wrap(err, "model %s", m->digest);
    }
    for (uint32_t i = 0; i < m->n_files; i++) {
        const char *f = format_of(m->files[i].role);
        m->format = f ? f : m->format;
    }
    return 0;
}

/* ---- opening ---- */

static int open_one(struct store *s, const struct store_file *f, int *ret_fd, struct err *err)
{
    struct stat st;
    int rc = store_blob_open(s, f->digest, ret_fd, err);
    if (rc < 0)
        return rc;
    if (fstat(*ret_fd, &st) == 0 && (uint64_t)st.st_size == f->size)
        return 0;
    close(*ret_fd);
    *ret_fd = -1;
    return err_set(err, E_CORRUPT,
                   "its file %s (blob %s) has another size than its manifest says: `berth verify "
                   "--repair` removes it, pulling the model brings it back",
                   f->path, f->digest);
}

static int template_read(struct store *s, const struct store_file *f, struct buf *ret,
                         struct err *err)
{
    buf_release(ret);
    return store_blob_read(s, f->digest, LIMIT_TEMPLATE_BYTES, ret, err);
}

static bool is_for_worker(const struct store_model *m, const struct store_file *f)
{
    bool is_folder = strcmp(m->format, "safetensors") == 0;
    return rank_of(f->role) == 0 ||
           (is_folder && (f->role == ROLE_FILE || f->role == ROLE_TEMPLATE));
}

static int opened_fill(struct store *s, const struct store_model *m, struct store_opened *o,
                       struct err *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < m->n_files; i++) {
        const struct store_file *f = &m->files[i];
        if (is_for_worker(m, f)) {
            if (o->files.n == LIMIT_MSG_FDS)
                return err_set(err, E_LIMIT, "it has more than %u files", LIMIT_MSG_FDS);
            o->files.fds[o->files.n] = -1;
            o->files.paths[o->files.n] = mem_dup(f->path, strlen(f->path));
            rc = open_one(s, f, &o->files.fds[o->files.n++], err);
        }
        if (rc == 0 && f->role == ROLE_MMPROJ && o->mmproj_fd < 0)
            rc = open_one(s, f, &o->mmproj_fd, err);
        else if (rc == 0 && f->role == ROLE_TEMPLATE && !o->chat_template.len)
            rc = template_read(s, f, &o->chat_template, err);
    }
    return rc;
}

static void hold(struct store *s, struct store_opened *o, const char *digest)
{
    store_hold(s, digest);
    memcpy(o->held[o->n_held++], digest, OCI_DIGEST_CHARS + 1);
}

int store_model_open(struct store *s, struct store_model *m, struct store_opened *ret,
                     struct err *err)
{
    *ret = (struct store_opened){.mmproj_fd = -1, .context_size = m->config.context_size};
    buf_init(&ret->chat_template, LIMIT_TEMPLATE_BYTES);
    /* The layers first, so that none is collected while archives are unpacked. */
    size_t room = (size_t)m->manifest.n_layers + 2 + LIMIT_OCI_LAYERS;
    ret->held = mem_try_alloc(room, sizeof(*ret->held), err);
    if (!ret->held)
        return -err->code;
    hold(s, ret, m->digest);
    hold(s, ret, m->manifest.config.digest);
    for (uint32_t i = 0; i < m->manifest.n_layers; i++)
        hold(s, ret, m->manifest.layers[i].digest);
    int rc = store_model_files(s, m, err);
    for (uint32_t i = 0; rc == 0 && i < m->n_files; i++)
        hold(s, ret, m->files[i].digest);
    if (rc == 0) {
        ret->files.fds = mem_alloc(LIMIT_MSG_FDS * sizeof(*ret->files.fds));
        ret->files.paths = mem_alloc(LIMIT_MSG_FDS * sizeof(*ret->files.paths));
        rc = opened_fill(s, m, ret, err);
        if (rc < 0)
            err_wrap(err, "model %s", m->n_names ? m->names[0] : m->digest);
    }
    if (rc < 0)
        store_model_close(s, ret);
    return rc;
}

void store_model_close(struct store *s, struct store_opened *o)
{
    for (uint32_t i = 0; i < o->n_held; i++)
        store_unhold(s, o->held[i]);
    if (o->held && o->mmproj_fd >= 0)
        close(o->mmproj_fd);
    mem_free(o->held);
    model_files_close(&o->files);
    buf_release(&o->chat_template);
    *o = (struct store_opened){.mmproj_fd = -1};
}
