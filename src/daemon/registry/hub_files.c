/* SPDX-License-Identifier: Apache-2.0 */
/* Implements hub_files.h. */
#include "daemon/registry/hub_files.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/config.h"

/* ---- listings ---- */

void hub_files_release(struct hub_files *f)
{
    mem_free(f->items);
    *f = (struct hub_files){0};
}

static bool is_lower_hex(struct str s, size_t n)
{
    bool ok = s.len == n;
    for (size_t i = 0; ok && i < n; i++)
        ok = isdigit((unsigned char)s.p[i]) || (s.p[i] >= 'a' && s.p[i] <= 'f');
    return ok;
}

int hub_parse_revision(struct str text, char ret_commit[GIT_BLOB_ID_CHARS + 1],
                       int64_t *ret_created_unix, struct err *err)
{
    json_t *root = NULL;
    struct str sha = STR_LIT(""), when = STR_LIT("");
    *ret_created_unix = -1;
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is not an object");
    if (rc == 0)
        rc = json_field_str(root, "sha", &sha, err);
    if (rc >= 0)
        rc = json_field_str(root, "lastModified", &when, err);
    if (rc >= 0 && !is_lower_hex(sha, GIT_BLOB_ID_CHARS))
        rc = err_set(err, E_FORMAT, "'sha' is not a commit");
    if (rc >= 0) {
        memcpy(ret_commit, sha.p, sha.len);
        ret_commit[sha.len] = '\0';
        if (when.len && !oci_time_parse(when, ret_created_unix))
            *ret_created_unix = -1;
    }
    json_decref(root);
    return rc < 0 ? err_wrap(err, "the hub's answer about the revision") : 0;
}

static int file_add(struct hub_files *f, const struct hub_file *file, struct err *err)
{
    if (f->n == HUB_FILES_MAX)
        return err_set(err, E_LIMIT, "the repository has more than %u files", HUB_FILES_MAX);
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? 2 * f->cap : 64;
        struct hub_file *items = mem_try_resize(f->items, cap, sizeof(*items), err);
        if (!items)
            return -err->code;
        f->items = items;
        f->cap = cap;
    }
    f->items[f->n++] = *file;
    return 0;
}

static int entry_add(const json_t *entry, struct arena *a, struct hub_files *f, struct err *err)
{
    struct str type = STR_LIT(""), path = STR_LIT(""), oid = STR_LIT(""), sha = STR_LIT("");
    struct err ignored = ERR_INIT;
    const json_t *lfs = NULL;
    int64_t size = -1;
    struct hub_file file = {.role = ROLE_UNKNOWN};
    if (!json_is_object(entry))
        return err_set(err, E_FORMAT, "an entry is %s instead of an object", json_kind(entry));
    int rc = json_field_str(entry, "type", &type, err);
    if (rc >= 0)
        rc = json_field_str(entry, "path", &path, err);
    if (rc >= 0)
        rc = json_field_str(entry, "oid", &oid, err);
    if (rc >= 0)
        rc = json_field_int(entry, "size", 0, (int64_t)LIMIT_OCI_BLOB_BYTES, &size, err);
    if (rc >= 0)
        rc = json_field_obj(entry, "lfs", &lfs, err);
    if (rc == 1)
        rc = json_field_str(lfs, "oid", &sha, err);
    if (rc < 0 || !str_is(type, "file") || oci_path_check(path, &ignored) < 0)
        return MIN_OF(rc, 0);
    if (sha.len > 7 && str_has_prefix(sha, STR_LIT("sha256:")))
        sha = (struct str){sha.p + 7, sha.len - 7};
    if (size < 0 || (lfs ? !is_lower_hex(sha, 64) : !is_lower_hex(oid, GIT_BLOB_ID_CHARS)))
        return err_set(err, E_FORMAT, "'%.*s' has no size or no digest", STR_ARG(path));
    if (lfs)
        snprintf(file.digest, sizeof(file.digest), "sha256:%.*s", STR_ARG(sha));
    else
        memcpy(file.git_id, oid.p, oid.len);
    file.size = (uint64_t)size;
    file.path = arena_try_dup(a, path.p, path.len, err);
    return file.path ? file_add(f, &file, err) : -err->code;
}

int hub_parse_tree(struct str text, struct arena *a, struct hub_files *f, struct err *err)
{
    json_t *root = NULL;
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_array(root))
        rc = err_set(err, E_FORMAT, "it is not a list");
    for (size_t i = 0; rc == 0 && i < json_array_size(root); i++)
        rc = entry_add(json_array_get(root, i), a, f, err);
    json_decref(root);
    return rc < 0 ? err_wrap(err, "the hub's list of files") : 0;
}

bool hub_next_page(struct str link, struct str *ret)
{
    while (link.len) {
        const char *open = memchr(link.p, '<', link.len);
        const char *close = open ? memchr(open, '>', link.len - (size_t)(open - link.p)) : NULL;
        if (!close)
            return false;
        struct str rest = {close + 1, link.len - (size_t)(close + 1 - link.p)};
        const char *comma = memchr(rest.p, ',', rest.len);
        struct str params = {rest.p, comma ? (size_t)(comma - rest.p) : rest.len};
        if (memmem(params.p, params.len, "rel=\"next\"", 10) ||
            memmem(params.p, params.len, "rel=next", 8)) {
            *ret = (struct str){open + 1, (size_t)(close - open - 1)};
            return true;
        }
        link = (struct str){rest.p + params.len, rest.len - params.len};
    }
    return false;
}

/* ---- names of files ---- */

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A GGUF file's name without ".gguf" and without "-00001-of-00003"; which shard of how many (1 of 1
 * otherwise). */
static struct str stem_of(const char *path, uint32_t *ret_shard, uint32_t *ret_n_shards)
{
    struct str s = str_from(path);
    unsigned shard = 1, n = 1;
    int end = 0;
    s.len -= s.len >= 5 && strcasecmp(s.p + s.len - 5, ".gguf") == 0 ? 5 : 0;
    if (s.len > 15 && s.p[s.len - 15] == '-' &&
        sscanf(s.p + s.len - 15, "-%5u-of-%5u%n", &shard, &n, &end) == 2 && end == 15)
        s.len -= 15;
    else
        shard = n = 1;
    *ret_shard = shard;
    *ret_n_shards = n;
    return s;
}

static bool same_stem(const char *a, const char *b)
{
    uint32_t i, n;
    return str_eq(stem_of(a, &i, &n), stem_of(b, &i, &n));
}

static bool is_separator(char c)
{
    return c == '-' || c == '.' || c == '_' || c == '/';
}

/* How a stem names the quantisation: 2 at its end, 1 in its midst, 0 not at all. */
static int names_quant(struct str stem, const char *tag)
{
    size_t n = strlen(tag);
    int found = 0;
    for (size_t i = 0; i + n <= stem.len; i++) {
        bool ends = i + n == stem.len;
        if ((i == 0 || is_separator(stem.p[i - 1])) && strncasecmp(stem.p + i, tag, n) == 0 &&
            (ends || is_separator(stem.p[i + n])))
            found = ends ? 2 : MAX_OF(found, 1);
    }
    return found;
}

/* The part of a stem that looks like a quantisation; the whole name when none does. */
struct str hub_quant_of(const char *path)
{
    static const char *const begins[] = {"Q",  "IQ",   "TQ",   "F16", "F32",
                                         "BF", "FP16", "FP32", "MXFP"};
    uint32_t i, n;
    struct str stem = stem_of(path, &i, &n);
    const char *base = base_of(path);
    struct str name = {base, stem.len - (size_t)(base - path)};
    for (size_t at = name.len; at-- > 0;) {
        if (at && name.p[at - 1] != '-' && name.p[at - 1] != '.')
            continue;
        for (size_t k = 0; k < ARRAY_LEN(begins); k++) {
            size_t len = strlen(begins[k]);
            struct str q = {name.p + at, name.len - at};
            bool digit = q.len > len && (isdigit((unsigned char)q.p[len]) || len > 2);
            if ((digit || (q.len == len && len > 2)) && strncasecmp(q.p, begins[k], len) == 0)
                return q;
        }
    }
    return name;
}

/* ---- choosing ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct hub_file *)a)->path, ((const struct hub_file *)b)->path);
}

static uint32_t count_role(const struct hub_files *f, enum oci_role role)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++)
        n += f->items[i].role == role;
    return n;
}

/* Keeps those of keep[i], in their order. */
static void keep_only(struct hub_files *f, const bool *keep)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        if (keep[i])
            f->items[n++] = f->items[i];
    }
    f->n = n;
}

/* Quantisations that are there, for a message. */
static void put_quants(const struct hub_files *f, struct buf *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n && n < 20; i++) {
        bool is_again = f->items[i].role != ROLE_GGUF;
        for (uint32_t k = 0; k < i && !is_again; k++)
            is_again = f->items[k].role == ROLE_GGUF &&
                       str_eq(hub_quant_of(f->items[k].path), hub_quant_of(f->items[i].path));
        if (is_again)
            continue;
        struct str q = hub_quant_of(f->items[i].path);
        buf_printf(out, "%s%.*s", n++ ? ", " : "", STR_ARG(q));
    }
}

/* The index of the file whose set a tag names; UINT32_MAX none.  *ret_n: how many sets it could
 * be. */
static uint32_t find_quant(const struct hub_files *f, const char *tag, uint32_t *ret_n)
{
    uint32_t found = UINT32_MAX, shard, n_shards;
    int best = 0;
    *ret_n = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->items[i].role != ROLE_GGUF)
            continue;
        int how = names_quant(stem_of(f->items[i].path, &shard, &n_shards), tag);
        if (how == 0 || how < best ||
            (how == best && found != UINT32_MAX &&
             same_stem(f->items[i].path, f->items[found].path)))
            continue;
        *ret_n = how > best ? 1 : *ret_n + 1;
        if (how > best)
            found = i;
        best = how;
    }
    return found;
}

static uint32_t first_gguf(const struct hub_files *f, uint32_t *ret_n_sets)
{
    uint32_t first = UINT32_MAX;
    *ret_n_sets = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->items[i].role != ROLE_GGUF)
            continue;
        bool is_new = i == 0 || f->items[i - 1].role != ROLE_GGUF ||
                      !same_stem(f->items[i].path, f->items[i - 1].path);
        *ret_n_sets += is_new;
        first = first == UINT32_MAX ? i : first;
    }
    return first;
}

static bool is_no_tag(const char *tag)
{
    return !tag[0] || strcasecmp(tag, "latest") == 0 || strcasecmp(tag, "main") == 0;
}

static int choose_quant(const struct hub_files *f, const char *tag, uint32_t *ret,
                        char note[HUB_NOTE_BYTES], struct err *err)
{
    uint32_t n;
    *ret = find_quant(f, is_no_tag(tag) ? "Q4_K_M" : tag, &n);
    struct buf there;
    buf_init(&there, 1024);
    put_quants(f, &there);
    int rc = 0;
    if (*ret == UINT32_MAX && is_no_tag(tag)) {
        *ret = first_gguf(f, &n);
        struct str q = hub_quant_of(f->items[*ret].path);
        if (n > 1)
            snprintf(note, HUB_NOTE_BYTES, "There is no Q4_K_M; %.*s is taken, of %.150s",
                     STR_ARG(q), buf_str(&there));
    } else if (*ret == UINT32_MAX) {
        rc = err_set(err, E_NOTFOUND, "there is no quantisation %s there; there are: %s", tag,
                     buf_str(&there));
    } else if (n > 1) {
        rc = err_set(err, E_INVALID, "%s could be %u of the files there; the names are: %s", tag, n,
                     buf_str(&there));
    }
    buf_release(&there);
    return rc;
}

/* Every shard of the set that f->items[chosen] belongs to. */
static int keep_set(const struct hub_files *f, uint32_t chosen, bool *keep, struct err *err)
{
    uint32_t shard, n_shards, n = 0, i, k;
    stem_of(f->items[chosen].path, &shard, &n_shards);
    for (i = 0; i < f->n; i++) {
        if (f->items[i].role == ROLE_GGUF && same_stem(f->items[i].path, f->items[chosen].path)) {
            stem_of(f->items[i].path, &shard, &k);
            n += k == n_shards && shard == n + 1; /* sorted, so in their order */
            keep[i] = true;
        }
    }
    if (n != n_shards)
        return err_set(err, E_FORMAT, "%s: only %u of its %u shards are there",
                       f->items[chosen].path, n, n_shards);
    return 0;
}

/* The projector: one of 16-bit floats before others. */
static uint32_t find_mmproj(const struct hub_files *f)
{
    uint32_t found = UINT32_MAX, shard, n;
    bool is_f16 = false;
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->items[i].role != ROLE_MMPROJ)
            continue;
        bool this_f16 = names_quant(stem_of(f->items[i].path, &shard, &n), "f16") > 0;
        if (found == UINT32_MAX || (this_f16 && !is_f16)) {
            found = i;
            is_f16 = this_f16;
        }
    }
    return found;
}

static int pick_gguf(struct hub_files *f, const char *tag, bool *keep, char note[HUB_NOTE_BYTES],
                     struct err *err)
{
    uint32_t chosen;
    int rc = choose_quant(f, tag, &chosen, note, err);
    if (rc == 0)
        rc = keep_set(f, chosen, keep, err);
    if (rc < 0)
        return rc;
    uint32_t mmproj = find_mmproj(f);
    if (mmproj != UINT32_MAX)
        keep[mmproj] = true;
    for (uint32_t i = 0; i < f->n; i++)
        keep[i] |= f->items[i].role == ROLE_LICENSE && !strchr(f->items[i].path, '/');
    keep_only(f, keep);
    return 0;
}

/* Of a folder that is loaded as a whole: its weights at the top (everywhere, of a pipeline), and
 * the small files around them. */
static bool is_of_folder(const struct hub_file *file, bool is_pipeline, bool has_model)
{
    static const char *const endings[] = {".json", ".txt", ".md", ".vocab", ".jinja", ".model"};
    const char *base = base_of(file->path);
    bool is_top = base == file->path;
    if (file->role == ROLE_SAFETENSORS)
        return (is_top || is_pipeline) &&
               !(has_model && strncmp(base, "consolidated", strlen("consolidated")) == 0);
    bool ok = file->role == ROLE_LICENSE || file->role == ROLE_TEMPLATE;
    for (size_t i = 0; i < ARRAY_LEN(endings) && !ok; i++)
        ok = str_has_suffix(str_from(base), str_from(endings[i]));
    return ok && base[0] != '.';
}

static int pick_folder(struct hub_files *f, bool *keep, struct err *err)
{
    bool is_pipeline = false, has_model = false;
    for (uint32_t i = 0; i < f->n; i++) {
        is_pipeline |= strcmp(f->items[i].path, "model_index.json") == 0;
        has_model |=
            f->items[i].role == ROLE_SAFETENSORS && strncmp(f->items[i].path, "model", 5) == 0;
    }
    for (uint32_t i = 0; i < f->n; i++)
        keep[i] = is_of_folder(&f->items[i], is_pipeline, has_model);
    keep_only(f, keep);
    return count_role(f, ROLE_SAFETENSORS)
               ? 0
               : err_set(err, E_UNSUPPORTED,
                         "the safetensors files there lie in folders, and it is no pipeline: there "
                         "is no model at the top");
}

static int pick_dduf(struct hub_files *f, bool *keep, struct err *err)
{
    if (count_role(f, ROLE_DDUF) > 1)
        return err_set(err, E_UNSUPPORTED, "there are %u DDUF files there, and the name means one",
                       count_role(f, ROLE_DDUF));
    for (uint32_t i = 0; i < f->n; i++)
        keep[i] = f->items[i].role == ROLE_DDUF ||
                  (f->items[i].role == ROLE_LICENSE && !strchr(f->items[i].path, '/'));
    keep_only(f, keep);
    return 0;
}

int hub_pick(struct hub_files *f, const char *tag, char ret_note[HUB_NOTE_BYTES], struct err *err)
{
    ret_note[0] = '\0';
    if (f->n)
        qsort(f->items, f->n, sizeof(*f->items), compare);
    for (uint32_t i = 0; i < f->n; i++)
        f->items[i].role = oci_role_of_name(f->items[i].path);
    bool *keep = mem_try_alloc(MAX_OF(f->n, 1u), sizeof(*keep), err);
    if (!keep)
        return -err->code;
    int rc = 0;
    if (count_role(f, ROLE_GGUF))
        rc = pick_gguf(f, tag, keep, ret_note, err);
    else if (!is_no_tag(tag))
        rc = err_set(err, E_NOTFOUND,
                     "a tag names a quantisation of GGUF files, and there are none there; name a "
                     "revision with @%s",
                     tag);
    else if (count_role(f, ROLE_SAFETENSORS))
        rc = pick_folder(f, keep, err);
    else if (count_role(f, ROLE_DDUF))
        rc = pick_dduf(f, keep, err);
    else
        rc = err_set(err, E_UNSUPPORTED, "there are no GGUF, safetensors or DDUF files there");
    mem_free(keep);
    return rc;
}
