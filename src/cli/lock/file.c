/* SPDX-License-Identifier: Apache-2.0 */
/* The lock as a file, and the names in it. */
#include <stdio.h>
#include <string.h>

#include "cli/lock/lock.h"
#include "cli/artifact/out_file.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"
#include "lib/oci/reference.h"
#include "lib/sys/file.h"

#define LOCK_MAX_BYTES (4u << 20)
#define LOCK_VERSION   1

static int check_entry(const char *path, const char *name, const json_t *entry, struct err *err)
{
    const char *digest = json_string_value(json_object_get(entry, "digest"));
    const json_t *parameters = json_object_get(entry, "parameters");
    struct err why = ERR_INIT;
    if (!digest || oci_digest_check(str_from(digest), &why) < 0)
        return err_set(err, E_FORMAT, "%s: the digest of '%.128s' is none%s%s", path, name,
                       digest ? ": " : "", why.msg);
    if (!json_is_object(parameters))
        return err_set(err, E_FORMAT, "%s: the parameters of '%.128s' are no object", path, name);
    return 0;
}

static int check_shape(const char *path, const json_t *lock, struct err *err)
{
    const json_t *models = json_object_get(lock, "models");
    const char *name;
    json_t *entry;
    if (!json_is_integer(json_object_get(lock, "version")) || !json_is_object(models) ||
        !json_is_string(json_object_get(lock, "engine")))
        return err_set(err, E_FORMAT, "%s is no lock: it lacks version, engine or models", path);
    if (json_integer_value(json_object_get(lock, "version")) != LOCK_VERSION)
        return err_set(err, E_UNSUPPORTED, "%s has version %lld, and this berth reads version %d",
                       path, (long long)json_integer_value(json_object_get(lock, "version")),
                       LOCK_VERSION);
    json_object_foreach((json_t *)models, name, entry)
    {
        if (check_entry(path, name, entry, err) < 0)
            return -err->code;
    }
    return 0;
}

int lock_read(const char *path, json_t **ret, struct err *err)
{
    struct buf text;
    int rc = file_read_regular(path, LOCK_MAX_BYTES, &text, err);
    *ret = NULL;
    if (rc == -E_NOTFOUND)
        rc = err_set(err, E_NOTFOUND, "there is no %s here; `berth lock MODEL...` makes one", path);
    if (rc == 0 && (rc = json_parse((struct str){buf_str(&text), text.len}, ret, err)) < 0)
        rc = err_wrap(err, "%s", path);
    if (rc == 0 && (rc = check_shape(path, *ret, err)) < 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    buf_release(&text);
    return rc;
}

static int to_buf(const char *p, size_t n, void *ctx)
{
    return buf_append(ctx, p, n) < 0 ? -1 : 0;
}

int lock_write(const char *path, const json_t *lock, struct err *err)
{
    struct buf text;
    struct out_file out; /* for everybody who may read the project, unlike file_write_whole's */
    buf_init(&text, LOCK_MAX_BYTES);
    json_dump_callback(lock, to_buf, &text, JSON_INDENT(2) | JSON_SORT_KEYS);
    buf_append_char(&text, '\n');
    int rc = buf_status(&text, "the lock", err);
    if (rc == 0)
        rc = out_file_open(&out, path, err);
    if (rc == 0)
        rc = out_file_close(&out, out_file_write(&out, buf_str(&text), text.len, err), err);
    buf_release(&text);
    return rc;
}

int lock_name(const struct client *c, const char *model, struct buf *out, struct err *err)
{
    struct oci_reference r;
    buf_clear(out);
    if (oci_reference_parse(str_from(model), c->default_registry, &r, err) < 0)
        return -err->code;
    r.digest[0] = '\0';
    if (!r.tag[0])
        snprintf(r.tag, sizeof(r.tag), "latest");
    oci_reference_put(&r, out);
    return buf_status(out, "the model's name", err);
}

const json_t *lock_find(const struct client *c, const json_t *lock, const char *model)
{
    const json_t *models = json_object_get(lock, "models"), *entry = json_object_get(models, model);
    struct err ignored = ERR_INIT;
    struct buf name;
    buf_init(&name, LIMIT_PATH_BYTES);
    if (!entry && lock_name(c, model, &name, &ignored) == 0)
        entry = json_object_get(models, buf_str(&name));
    buf_release(&name);
    return entry;
}
