/* SPDX-License-Identifier: Apache-2.0 */
/* What models are now, and where that is not what a lock says. */
#include <stdio.h>
#include <string.h>

#include "cli/artifact/artifact.h"
#include "cli/lock/lock.h"
#include "cli/models.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"

#define VALUE_CHARS 80

/* The daemon's settings as a lock has them: a template by its digest. */
static json_t *parameters_of(const json_t *settings)
{
    json_t *p = json_is_object(settings) ? json_deep_copy(settings) : json_object();
    const json_t *template = json_object_get(p, "chat-template");
    if (json_is_string(template)) {
        struct sha256 s;
        char digest[SHA256_STRING_CHARS + 1];
        sha256_init(&s);
        sha256_add(&s, json_string_value(template), json_string_length(template));
        sha256_end(&s, digest);
        json_object_set_new(p, "chat-template", json_string(digest));
    }
    return p;
}

/* How the daemon runs it (new reference), or NULL. */
static json_t *known(const struct client *c, const char *model, struct err *err)
{
    struct buf path;
    json_t *answer = NULL;
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_append_str(&path, "/berth/v1/models/");
    client_escape(&path, model, true);
    if (buf_status(&path, "the model's name", err) < 0 ||
        client_json(c, "GET", buf_str(&path), NULL, &answer, err) < 0)
        answer = NULL;
    buf_release(&path);
    return answer;
}

/* A file's digest is known once it was loaded. */
static int digest_of_file(const struct client *c, const char *model, json_t *m, json_t *state,
                          struct err *err)
{
    json_t *answer = NULL, *body = json_pack("{s:s}", "model", model);
    const char *digest = answer_text(m, "digest");
    int rc = 0;
    if (!*digest)
        rc = client_json(c, "POST", "/berth/v1/load", body, &answer, err);
    if (rc == 0 && answer && *answer_text(answer, "digest"))
        digest = answer_text(answer, "digest");
    if (rc == 0 && !*digest)
        rc = err_set(err, E_GONE, "the daemon does not tell the digest of '%.128s'", model);
    json_object_set_new(state, "digest", json_string(digest));
    json_object_set_new(state, "source", json_string("file"));
    json_decref(answer);
    json_decref(body);
    return rc;
}

int lock_state(const struct client *c, const char *model, bool is_remote, json_t **ret,
               struct err *err)
{
    struct err ignored = ERR_INIT;
    json_t *m = NULL, *state = json_object();
    json_t *run = known(c, model, &ignored);
    int rc = 0;
    json_object_set_new(state, "parameters", parameters_of(json_object_get(run, "settings")));
    if (run && strcmp(answer_text(run, "source"), "file") == 0) {
        rc = digest_of_file(c, model, run, state, err);
    } else if ((rc = artifact_model(c, model, is_remote, &m, err)) == 0) {
        json_object_set(state, "digest", json_object_get(m, "id"));
        if (!*answer_text(state, "digest"))
            rc = err_set(err, E_FORMAT, "the daemon does not tell the digest of '%.128s'", model);
    }
    json_decref(m);
    json_decref(run);
    if (rc == 0)
        *ret = state;
    else
        json_decref(state);
    return rc;
}

static const char *shown(const json_t *v, char ret[VALUE_CHARS + 1])
{
    struct buf b;
    buf_init(&b, LIMIT_TEMPLATE_BYTES);
    if (v)
        json_put_value(&b, v);
    snprintf(ret, VALUE_CHARS + 1, "%s", v ? buf_str(&b) : "nothing");
    buf_release(&b);
    return ret;
}

/* Numbers that are equal whichever kind JSON made of them. */
static bool is_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal((json_t *)a, (json_t *)b);
}

unsigned lock_compare(const char *model, const json_t *entry, const json_t *state, lock_note_fn fn,
                      void *ctx)
{
    const json_t *want = json_object_get(entry, "parameters"),
                 *have = json_object_get(state, "parameters");
    /* What flags of another engine's words become is the daemon's to know: then only what stands in
     * plain is compared. */
    bool is_partial = json_object_get(want, "runtime-flags") != NULL;
    char text[640], a[VALUE_CHARS + 1], b[VALUE_CHARS + 1];
    unsigned n = 0;
    const char *key;
    json_t *v;
    if (strcmp(answer_text(entry, "digest"), answer_text(state, "digest")) != 0) {
        snprintf(text, sizeof(text), "%.128s is %s here, and %s in the lock", model,
                 answer_text(state, "digest"), answer_text(entry, "digest"));
        fn(ctx, text);
        n++;
    }
    json_object_foreach((json_t *)want, key, v)
    {
        const json_t *now = json_object_get(have, key);
        if (strcmp(key, "runtime-flags") == 0 || (now && is_same(now, v)))
            continue;
        snprintf(text, sizeof(text), "%.64s of %.128s is %s here, and %s in the lock", key, model,
                 shown(now, a), shown(v, b));
        fn(ctx, text);
        n++;
    }
    json_object_foreach((json_t *)have, key, v)
    {
        if (is_partial || json_object_get(want, key))
            continue;
        snprintf(text, sizeof(text), "%.64s of %.128s is %s here, and nothing in the lock", key,
                 model, shown(v, a));
        fn(ctx, text);
        n++;
    }
    return n;
}

int lock_engine(const struct client *c, struct buf *out, struct err *err)
{
    char version[CLIENT_VERSION_MAX];
    int rc = client_version(c, version, err);
    if (rc == 0)
        rc = err_set(err, E_NET, "no daemon answers on %s", client_place(c));
    if (rc < 0)
        return rc;
    buf_printf(out, "berth %s", version);
    return buf_status(out, "the engine's version", err);
}

static void collect(void *ctx, const char *sentence)
{
    struct buf *all = ctx;
    buf_printf(all, "%s%s", all->len ? "; " : "", sentence);
}

/* Everything in which the daemon is not what the lock says becomes one refusal. */
static int match(const struct client *c, const json_t *lock, const char *model, const json_t *entry,
                 struct err *err)
{
    struct buf engine, all;
    json_t *state = NULL;
    const char *locked = json_string_value(json_object_get(lock, "engine"));
    buf_init(&engine, 256);
    buf_init(&all, 8192);
    int rc = lock_engine(c, &engine, err);
    if (rc == 0 && strcmp(buf_str(&engine), locked) != 0)
        buf_printf(&all, "the engine is %s here, and %.64s in the lock", buf_str(&engine), locked);
    if (rc == 0)
        rc = lock_state(c, model, false, &state, err);
    if (rc == -E_NOTFOUND)
        rc = err_set(
            err, E_NOTFOUND,
            "--locked: %.128s is not here; `berth pull --locked %.128s` fetches the lock's bytes",
            model, model);
    if (rc == 0)
        lock_compare(model, entry, state, collect, &all);
    if (rc == 0 && all.len)
        rc = err_set(
            err, E_DENIED,
            "--locked: %.300s (`berth lock --apply` makes it so, `berth lock` locks what is "
            "here)",
            buf_str(&all));
    json_decref(state);
    buf_release(&engine);
    buf_release(&all);
    return rc;
}

int lock_demand(const struct client *c, const char *path, const char *model, bool must_match,
                struct buf *out, struct err *err)
{
    json_t *lock = NULL;
    int rc = lock_read(path, &lock, err);
    if (rc < 0)
        return rc;
    const json_t *entry = lock_find(c, lock, model);
    if (!entry)
        rc = err_set(err, E_DENIED, "--locked: %s does not name %.128s", path, model);
    else if (must_match)
        rc = match(c, lock, model, entry, err);
    if (rc == 0 && *answer_text(entry, "source")) {
        buf_append_str(out, model); /* a file is had by its name alone */
    } else if (rc == 0) {
        struct buf name;
        buf_init(&name, LIMIT_PATH_BYTES);
        rc = lock_name(c, model, &name, err);
        buf_printf(out, "%s@%s", buf_str(&name), answer_text(entry, "digest"));
        buf_release(&name);
    }
    json_decref(lock);
    return rc < 0 ? rc : buf_status(out, "the model's name", err);
}
