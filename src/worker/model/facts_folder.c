/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of safetensors: all shards, held against each other and against the index. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/codec/relpath.h"
#include "worker/model/facts_impl.h"
#include "worker/model/safetensors.h"

#define JSON_FILE_BYTES (64u << 20) /* config.json, index.json */

struct folder {
    const struct facts_file *files;
    uint32_t n;
    struct safetensors **open; /* [n], owned; NULL: not a shard */
    struct map tensors;        /* "FOLDER/tensor" -> file; keys owned below */
    struct map paths;          /* of files */
    char **keys;               /* owned */
    uint32_t n_keys, cap_keys;
};

/* ---- JSON files ---- */

static int json_read(const struct facts_file *f, json_t **ret, struct err *err)
{
    uint64_t n = 0;
    int rc = facts_size(f, &n, err);
    if (rc < 0)
        return rc;
    if (n > JSON_FILE_BYTES)
        return err_set(err, E_LIMIT, "%.200s has %llu bytes, more than %u", f->name,
                       (unsigned long long)n, JSON_FILE_BYTES);
    char *text = mem_try_alloc((size_t)n + 1, 1, err);
    if (!text)
        return -err->code;
    size_t done = 0;
    while (rc == 0 && done < n) {
        ssize_t got = pread(f->fd, text + done, (size_t)n - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            rc = err_set(err, E_IO, "%.200s could not be read whole", f->name);
        done += got > 0 ? (size_t)got : 0;
    }
    if (rc == 0) {
        rc = json_parse((struct str){text, done}, ret, err);
        if (rc == 0 && !json_is_object(*ret))
            rc = err_set(err, E_FORMAT, "it is %s instead of an object", json_kind(*ret));
        if (rc < 0)
            rc = err_wrap(err, "%.200s", f->name);
    }
    mem_free(text);
    return rc;
}

/* ---- shards ---- */

static char *key_keep(struct folder *f, const char *path, const char *tensor, struct err *err)
{
    const char *slash = strrchr(path, '/');
    struct buf b;
    if (f->n_keys == f->cap_keys) {
        uint32_t cap = f->cap_keys ? 2 * f->cap_keys : 256;
        char **more = mem_try_resize(f->keys, cap, sizeof(*more), err);
        if (!more)
            return NULL;
        f->keys = more;
        f->cap_keys = cap;
    }
    buf_init(&b, LIMIT_SAFETENSORS_HEADER_BYTES);
    buf_append(&b, path, slash ? (size_t)(slash + 1 - path) : 0);
    buf_append_str(&b, tensor);
    if (buf_status(&b, "a tensor's name", err) < 0) {
        buf_release(&b);
        return NULL;
    }
    return f->keys[f->n_keys++] = buf_take(&b);
}

static int shard_open(struct folder *f, uint32_t i, struct facts *facts, struct err *err)
{
    const struct facts_file *file = &f->files[i];
    uint64_t size = 0;
    uint32_t old = MAP_NONE;
    int rc = facts_size(file, &size, err);
    if (rc == 0) {
        rc = safetensors_open(file->fd, 0, size, &f->open[i], err);
        if (rc < 0)
            return err_wrap(err, "%.200s", file->name);
    }
    facts->n_bytes += size;
    for (uint32_t k = 0; rc == 0 && k < safetensors_n_tensors(f->open[i]); k++) {
        const char *key = key_keep(f, file->name, safetensors_tensor_at(f->open[i], k)->name, err);
        rc = key ? map_try_put(&f->tensors, str_from(key), i, &old, err) : -err->code;
        if (rc == 0 && old != MAP_NONE)
            rc = err_set(err, E_FORMAT, "tensor '%.100s' is both in %.150s and in %.150s", key,
                         f->files[old].name, file->name);
    }
    if (rc < 0)
        return rc;
    const char *dtype = safetensors_dtype_name(f->open[i]);
    facts->n_params += safetensors_n_params(f->open[i]);
    bool is_first = !facts->quantization[0];
    facts->quantization = is_first || strcmp(facts->quantization, dtype) == 0 ? dtype : "mixed";
    return 0;
}

/* ---- the index ---- */

/* Every tensor that it names is in the shard that it names, which is one of the model's files. */
static int index_check(struct folder *f, const struct facts_file *file, const json_t *root,
                       struct err *err)
{
    const json_t *map = NULL;
    const char *tensor, *slash = strrchr(file->name, '/');
    json_t *v;
    int rc = json_field_obj(root, "weight_map", &map, err);
    if (rc <= 0)
        return rc < 0 ? rc : err_set(err, E_FORMAT, "it has no 'weight_map'");
    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const char *shard = json_string_value(v);
        struct buf path;
        if (!shard || !relpath_is_inside(str_from(shard), LIMIT_OCI_PATH_BYTES))
            return err_set(err, E_FORMAT, "tensor '%.100s' is said to lie outside the model",
                           tensor);
        buf_init(&path, 2 * LIMIT_OCI_PATH_BYTES);
        buf_append(&path, file->name, slash ? (size_t)(slash + 1 - file->name) : 0);
        buf_append_str(&path, shard);
        uint32_t i = map_get(&f->paths, str_from(buf_str(&path)));
        buf_release(&path);
        if (i == MAP_NONE || !f->open[i])
            return err_set(err, E_NOTFOUND, "it names the file '%.150s', which is not there",
                           shard);
        if (!safetensors_find(f->open[i], tensor))
            return err_set(err, E_FORMAT, "tensor '%.100s' is not in '%.150s', where it says",
                           tensor, shard);
    }
    return 0;
}

/* ---- config.json ---- */

static uint64_t context_of(const json_t *config)
{
    /* As Docker Model Runner looks for it. */
    static const char *const keys[] = {
        "max_position_embeddings", "n_ctx",           "n_positions", "max_length",
        "max_sequence_length",     "model_max_length"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct err ignored = ERR_INIT;
        int64_t n = 0;
        if (json_field_int(config, keys[i], 1, INT32_MAX, &n, &ignored) == 1)
            return (uint64_t)n;
    }
    return 0;
}

static void config_take(const json_t *root, struct facts *facts)
{
    struct err ignored = ERR_INIT;
    const json_t *text = json_object_get(root, "text_config"); /* of models with several parts */
    struct str s;
    facts->context_size = context_of(root);
    if (!facts->context_size)
        facts->context_size = context_of(text);
    if (json_field_str(root, "model_type", &s, &ignored) == 1 && s.len < 64)
        facts->architecture = s;
}

/* ---- all of it ---- */

static void metadata_take(const struct folder *f, struct buf *metadata)
{
    struct map seen;
    uint64_t n_tensors = 0;
    uint32_t old;
    struct err ignored = ERR_INIT;
    char count[24];
    map_init(&seen);
    for (uint32_t i = 0; i < f->n; i++) {
        const char *key;
        json_t *v;
        if (!f->open[i])
            continue;
        n_tensors += safetensors_n_tensors(f->open[i]);
        json_object_foreach((json_t *)(uintptr_t)safetensors_metadata(f->open[i]), key, v)
        {
            if (map_try_put(&seen, str_from(key), 0, &old, &ignored) == 0 && old == MAP_NONE)
                facts_put_pair(metadata, str_from(key),
                               (struct str){json_string_value(v), json_string_length(v)});
        }
    }
    map_release(&seen);
    struct buf b;
    buf_init(&b, sizeof(count));
    buf_printf(&b, "%llu", (unsigned long long)n_tensors);
    facts_put_pair(metadata, STR_LIT("tensor_count"), str_from(buf_str(&b)));
    buf_release(&b);
}

static int folder_read(struct folder *f, struct facts *facts, json_t **config, struct err *err)
{
    int rc = 0;
    uint32_t old;
    for (uint32_t i = 0; rc == 0 && i < f->n; i++) {
        rc = map_try_put(&f->paths, str_from(f->files[i].name), i, &old, err);
        if (rc == 0 && facts_has_ending(f->files[i].name, ".safetensors"))
            rc = shard_open(f, i, facts, err);
    }
    for (uint32_t i = 0; rc == 0 && i < f->n; i++) {
        const struct facts_file *file = &f->files[i];
        json_t *root = NULL;
        if (facts_has_ending(file->name, ".safetensors.index.json")) {
            rc = json_read(file, &root, err);
            if (rc == 0 && index_check(f, file, root, err) < 0)
                rc = err_wrap(err, "%.200s", file->name);
            json_decref(root);
        } else if (strcmp(file->name, "config.json") == 0) {
            rc = json_read(file, config, err);
        }
    }
    return rc;
}

int facts_read_folder(const struct facts_file *files, uint32_t n, struct buf *out, struct err *err)
{
    struct folder f = {.files = files, .n = n};
    struct facts facts = {.format = "safetensors", .quantization = ""};
    struct buf metadata;
    struct str said;
    json_t *config = NULL;
    f.open = mem_try_alloc(n, sizeof(struct safetensors *), err);
    if (!f.open)
        return -err->code;
    map_init(&f.tensors);
    map_init(&f.paths);
    buf_init(&metadata, 2 * FACTS_METADATA_BYTES);
    int rc = folder_read(&f, &facts, &config, err);
    if (rc == 0) {
        struct err ignored = ERR_INIT;
        config_take(config, &facts);
        for (uint32_t i = 0; i < n; i++) {
            if (f.open[i] && json_field_str(safetensors_metadata(f.open[i]), "architecture", &said,
                                            &ignored) == 1)
                facts.architecture = said;
        }
        metadata_take(&f, &metadata);
        facts_put(&facts, &metadata, out);
    }
    buf_release(&metadata);
    json_decref(config);
    for (uint32_t i = 0; i < n; i++)
        safetensors_close(f.open[i]);
    for (uint32_t i = 0; i < f.n_keys; i++)
        mem_free(f.keys[i]);
    mem_free(f.keys);
    mem_free(f.open);
    map_release(&f.tensors);
    map_release(&f.paths);
    return rc;
}
