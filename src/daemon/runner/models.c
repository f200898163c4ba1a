/* SPDX-License-Identifier: Apache-2.0 */
/* Implements models.h. */
#include "daemon/runner/models.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/codec/utf8.h"
#include "lib/ipc/gen.h"

#define SCAN_MAX_MODELS 4096u /* in all folders together */
#define SHARD_TAIL      15u   /* -00001-of-00002 */
#define NEAR_NAMES      3u
#define NEAR_NAME_BYTES 64u /* longer names are not compared */

static const struct str gguf_suffix = {".gguf", 5};

/* Whether stem ends in -NNNNN-of-NNNNN, and which shard of how many it is then. */
static bool stem_is_shard(struct str stem, unsigned *ret_no, unsigned *ret_count)
{
    if (stem.len <= SHARD_TAIL)
        return false;
    char tail[SHARD_TAIL + 1];
    int used = 0;
    memcpy(tail, stem.p + stem.len - SHARD_TAIL, SHARD_TAIL);
    tail[SHARD_TAIL] = '\0';
    return strspn(tail + 1, "0123456789") == 5 && strspn(tail + 10, "0123456789") == 5 &&
           sscanf(tail, "-%5u-of-%5u%n", ret_no, ret_count, &used) == 2 &&
           used == (int)SHARD_TAIL && *ret_no >= 1 && *ret_no <= *ret_count;
}

static struct str path_stem(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct str base = str_from(slash ? slash + 1 : path);
    if (str_has_suffix(base, gguf_suffix))
        base.len -= gguf_suffix.len;
    return base;
}

/* Whether a terminal would do something other than show it: controls, and what turns text round. */
static bool is_unsafe(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || (cp >= 0x200B && cp <= 0x200F) ||
           (cp >= 0x2028 && cp <= 0x202E) || (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF;
}

static int name_check(struct str name, struct err *err)
{
    bool is_clean = true;
    for (size_t i = 0, len; is_clean && i < name.len; i += len) {
        uint32_t cp;
        is_clean = utf8_next(name.p + i, name.len - i, &cp, &len) == UTF8_OK && !is_unsafe(cp);
    }
    if (!is_clean)
        return err_set(err, E_INVALID, "model name '%.*s' is not clean UTF-8 text", STR_ARG(name));
    if (name.len == 0 || name.len > LIMIT_MODEL_NAME_BYTES)
        return err_set(err, E_INVALID, "model name has %zu bytes, and needs 1 to %u", name.len,
                       LIMIT_MODEL_NAME_BYTES);
    return 0;
}

bool model_name_is_fit(struct str name)
{
    struct err err = ERR_INIT;
    return name_check(name, &err) == 0;
}

/* Adds up the other shards of a split model; one that is missing is found out when it is loaded. */
static uint64_t sisters_bytes(const char *path, struct str stem, unsigned no, unsigned count)
{
    uint64_t sum = 0;
    char sister[LIMIT_PATH_BYTES];
    size_t head = (size_t)(stem.p - path) + stem.len - SHARD_TAIL;
    for (unsigned i = 1; i <= count && i <= LIMIT_MSG_FDS; i++) {
        struct stat st;
        int n =
            snprintf(sister, sizeof(sister), "%.*s-%05u-of-%05u.gguf", (int)head, path, i, count);
        if (i != no && n > 0 && (size_t)n < sizeof(sister) && stat(sister, &st) == 0)
            sum += (uint64_t)st.st_size;
    }
    return sum;
}

int model_file_look(const char *path, const char *name, struct model_file *ret, struct err *err)
{
    struct stat st;
    struct str stem = path_stem(path), own = stem;
    unsigned no = 0, count = 0;
    if (!str_has_suffix(str_from(path), gguf_suffix))
        return err_set(err, E_INVALID,
                       "the name does not end in .gguf: berth reads GGUF files "
                       "alone, and knows them by that ending");
    if (strlen(path) >= LIMIT_PATH_BYTES)
        return err_set(err, E_INVALID, "path of %zu bytes is too long", strlen(path));
    if (stat(path, &st) < 0)
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_INVALID, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, E_INVALID, "%s is not a regular file", path);
    bool is_split = stem_is_shard(stem, &no, &count);
    if (is_split)
        own.len -= SHARD_TAIL;
    struct str wanted = name ? str_from(name) : own;
    int rc = name_check(wanted, err);
    if (rc < 0)
        return rc;
    *ret = (struct model_file){
        .name = mem_dup(wanted.p, wanted.len),
        .path = mem_dup(path, strlen(path)),
        .bytes = (uint64_t)st.st_size + (is_split ? sisters_bytes(path, stem, no, count) : 0),
        .modified_unix = (int64_t)st.st_mtime,
    };
    return 0;
}

void model_file_release(struct model_file *f)
{
    mem_free(f->name);
    mem_free(f->path);
    *f = (struct model_file){0};
}

void models_found_release(struct model_files_found *f)
{
    for (size_t i = 0; i < f->n; i++)
        model_file_release(&f->items[i]);
    mem_free(f->items);
    *f = (struct model_files_found){0};
}

bool models_found_push(struct model_files_found *f, struct model_file *file)
{
    if (f->n == f->cap) {
        struct err err = ERR_INIT;
        size_t cap = f->cap ? f->cap * 2 : 16;
        void *grown = mem_try_resize(f->items, cap, sizeof(*f->items), &err);
        if (!grown)
            return false;
        f->items = grown;
        f->cap = cap;
    }
    f->items[f->n++] = *file;
    return true;
}

/* Told once: folders are read whenever somebody lists models, scrapes metrics or misspells a name.
 * By the file's name, not its path, which logs do not hold. */
static void tell_left_out(const char *dir, const char *why)
{
    static atomic_uint_fast64_t told[64];
    size_t n = strlen(dir) + 1;
    uint64_t hash = map_hash(why, strlen(why));
    if (atomic_exchange(&told[hash % ARRAY_LEN(told)], hash) != hash)
        log_info("left out: %s",
                 strncmp(why, dir, n - 1) == 0 && why[n - 1] == '/' ? why + n : why);
}

/* One entry of a folder: a model, the later shard of one, or nothing of interest. */
static void scan_entry(const char *dir, const char *name, struct model_files_found *ret)
{
    char path[LIMIT_PATH_BYTES];
    unsigned no, count;
    struct err err = ERR_INIT;
    struct model_file file;
    if (name[0] == '.' || !str_has_suffix(str_from(name), gguf_suffix))
        return;
    if (stem_is_shard(path_stem(name), &no, &count) && no != 1)
        return;
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return;
    if (model_file_look(path, NULL, &file, &err) < 0) {
        tell_left_out(dir, err.msg);
        return;
    }
    if (!models_found_push(ret, &file))
        model_file_release(&file);
}

void models_scan(const char *dirs, struct model_files_found *ret)
{
    *ret = (struct model_files_found){0};
    for (const char *p = dirs; p && *p;) {
        size_t len = strcspn(p, ":");
        char *dir = mem_dup(p, len);
        DIR *d = len ? opendir(dir) : NULL;
        struct dirent *e;
        while (d && ret->n < SCAN_MAX_MODELS && (e = readdir(d)))
            scan_entry(dir, e->d_name, ret);
        if (d)
            closedir(d);
        mem_free(dir);
        p += len + (p[len] == ':');
    }
}

/* --- the registry
 * ---------------------------------------------------------------------------------------------- */

static struct model *model_add(struct models *m, struct model_file *file)
{
    struct model *new = mem_alloc(sizeof(*new));
    new->runner = m->runner;
    new->file = *file;
    *file = (struct model_file){0};
    new->last = &new->first;
    if (m->on_new)
        m->on_new(new);
    new->next = m->first;
    m->first = new;
    m->n++;
    memcpy(new->digest, new->file.digest, sizeof(new->file.digest)); /* a file's comes later */
    return new;
}

static void model_remove(struct models *m, struct model **at)
{
    struct model *old = *at;
    BUG_ON(old->worker || old->first);
    loop_timer_cancel(&old->idle);
    loop_timer_cancel(&old->restart);
    *at = old->next;
    m->n--;
    model_file_release(&old->file);
    model_settings_release(&old->settings);
    mem_free(old);
}

void models_release(struct models *m)
{
    while (m->first)
        model_remove(m, &m->first);
}

struct model *models_find(const struct models *m, struct str name)
{
    for (struct model *x = m->first; x; x = x->next) {
        if (str_is(name, x->file.name))
            return x;
    }
    if (str_has_suffix(name, gguf_suffix))
        return models_find(m, (struct str){name.p, name.len - gguf_suffix.len});
    return NULL;
}

static bool is_stored(const struct model *x)
{
    return x->file.digest[0] != '\0';
}

static bool found_has(const struct model_files_found *f, const struct model *x)
{
    if (f->keeps_stored && is_stored(x))
        return true;
    for (size_t i = 0; i < f->n; i++) {
        const struct model_file *file = &f->items[i];
        if (file->path && strcmp(file->path, x->file.path) == 0 &&
            strcmp(file->digest, x->file.digest) == 0 &&
            (!is_stored(x) || strcmp(file->name, x->file.name) == 0))
            return true;
    }
    return false;
}

/* x's name is another model's, or nobody's, and its worker is still there: what it does it does
 * under its digest. */
static void model_detach(struct models *m, struct model *x)
{
    char *old = x->file.name;
    x->file.name = mem_dup(x->file.digest, strlen(x->file.digest));
    x->is_moved = true;
    if (m->on_moved)
        m->on_moved(x);
    mem_free(old);
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    return strcmp(a, b) == 0 || (stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
                                 sa.st_ino == sb.st_ino);
}

void models_merge(struct models *m, struct model_files_found *found)
{
    for (struct model **at = &m->first; *at;) {
        struct model *x = *at;
        bool stays = x->is_registered || found_has(found, x);
        if (!stays && !x->worker && !x->first) {
            model_remove(m, at);
            continue;
        }
        if (!stays && is_stored(x) && !x->is_moved)
            model_detach(m, x);
        at = &x->next;
    }
    for (size_t i = 0; i < found->n; i++) {
        struct model_file *f = &found->items[i];
        struct model *x = models_find(m, str_from(f->name));
        if (!x) {
            model_add(m, f);
        } else if (is_stored(x)) {
            x->is_moved &= strcmp(x->file.digest, f->digest) != 0;
        } else if (strcmp(x->file.path, f->path) == 0) {
            if (x->file.bytes != f->bytes || x->file.modified_unix != f->modified_unix)
                x->digest[0] = '\0'; /* of another file */
            x->file.bytes = f->bytes;
            x->file.modified_unix = f->modified_unix;
        } /* else: the name was taken first, by an earlier folder or by hand */
    }
}

int models_register(struct models *m, struct model_file *file, struct model **ret, struct err *err)
{
    struct model *x = NULL;
    for (struct model *it = m->first; it; it = it->next) {
        if (strcmp(it->file.name, file->name) == 0)
            x = it;
    }
    int rc = 0;
    if (x && (is_stored(x) || !is_same_file(x->file.path, file->path)))
        rc = err_set(err, E_EXISTS, "the name %s already means %s; give the model another name",
                     file->name, is_stored(x) ? x->file.digest : x->file.path);
    else if (!x)
        x = model_add(m, file);
    model_file_release(file);
    if (rc < 0)
        return rc;
    x->is_registered = true;
    *ret = x;
    return 0;
}

/* Levenshtein's distance, by bytes; both at most NEAR_NAME_BYTES long. */
static unsigned edit_distance(struct str a, struct str b)
{
    unsigned row[NEAR_NAME_BYTES + 1];
    for (size_t j = 0; j <= b.len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            unsigned above = row[j];
            unsigned change = diagonal + (a.p[i - 1] != b.p[j - 1]);
            row[j] = MIN_OF(change, MIN_OF(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[b.len];
}

unsigned name_distance(struct str wanted, struct str known)
{
    if (wanted.len > NEAR_NAME_BYTES || known.len > NEAR_NAME_BYTES || wanted.len == 0)
        return UINT32_MAX;
    unsigned d = edit_distance(wanted, known);
    if (d <= 1 + wanted.len / 4)
        return d;
    bool is_part =
        MIN_OF(wanted.len, known.len) >= 3 && (memmem(known.p, known.len, wanted.p, wanted.len) ||
                                               memmem(wanted.p, wanted.len, known.p, known.len));
    return is_part ? d : UINT32_MAX;
}

int models_not_found(const struct models *m, struct str name, const char *dirs, struct err *err)
{
    const struct model *near[NEAR_NAMES] = {NULL};
    unsigned dist[NEAR_NAMES];
    size_t n = 0;
    for (const struct model *x = m->first; x; x = x->next) {
        unsigned d = name_distance(name, str_from(x->file.name));
        size_t at = n;
        while (at > 0 && (d < dist[at - 1] ||
                          (d == dist[at - 1] && strcmp(x->file.name, near[at - 1]->file.name) < 0)))
            at--;
        if (d == UINT32_MAX || at == NEAR_NAMES)
            continue;
        n = MIN_OF(n + 1, NEAR_NAMES);
        for (size_t i = n - 1; i > at; i--) {
            near[i] = near[i - 1];
            dist[i] = dist[i - 1];
        }
        near[at] = x;
        dist[at] = d;
    }
    struct buf b;
    buf_init(&b, ERR_MSG_MAX);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s%s", i == 0 ? "" : i + 1 == n ? " or " : ", ", near[i]->file.name);
    int rc;
    if (n)
        rc = err_set(err, E_NOTFOUND, "no model is called '%.*s'; did you mean %s?", STR_ARG(name),
                     buf_str(&b));
    else if (m->n)
        rc =
            err_set(err, E_NOTFOUND,
                    "no model is called '%.*s'; `berth list` shows those there are", STR_ARG(name));
    else
        rc = err_set(err, E_NOTFOUND, "no model is called '%.*s': there is none in %s",
                     STR_ARG(name), dirs && *dirs ? dirs : "any folder, for none is configured");
    buf_release(&b);
    return rc;
}
