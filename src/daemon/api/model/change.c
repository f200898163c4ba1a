/* SPDX-License-Identifier: Apache-2.0 */
/* What changes the store at once: tags, removal, another context size. */
#include <stdio.h>
#include <string.h>

#include "daemon/api/model/model_api.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/package.h"
#include "lib/oci/sha256.h"

/* The name under which the store keeps what text says; E_INVALID for a digest, which is no name. */
static int stored_name(struct api *a, const char *text, struct buf *ret, struct err *err)
{
    struct oci_reference ref;
    int rc = oci_reference_parse(str_from(text), registry_default(a->cfg.registry), &ref, err);
    if (rc == 0 && ref.digest[0])
        return err_set(err, E_INVALID, "'%.200s' has a digest, and a tag is a name", text);
    if (rc == 0)
        oci_reference_put(&ref, ret);
    return rc < 0 ? rc : buf_status(ret, "a model's name", err);
}

/* --- tag --- */

static void answer_tagged(struct httpd_request *r, const char *name, const char *target)
{
    struct buf out, text;
    buf_init(&out, 16 * LIMIT_MODEL_NAME_BYTES);
    buf_init(&text, 16 * LIMIT_MODEL_NAME_BYTES);
    buf_printf(&text, "Model \"%s\" tagged successfully with \"%s\"", name, target);
    buf_append_str(&out, "{\"message\":");
    json_put_str(&out, str_from(buf_str(&text)));
    buf_append_str(&out, ",\"target\":");
    json_put_str(&out, str_from(target));
    buf_append_char(&out, '}');
    api_answer_json(r, 201, &out);
    buf_release(&text);
}

static void tag(struct api *a, struct httpd_request *r, const char *name)
{
    const char *repo = httpd_query_value(r, "repo"), *given = httpd_query_value(r, "tag");
    char digest[OCI_DIGEST_CHARS + 1];
    struct buf full, target, text;
    struct err err = ERR_INIT;
    if (!repo || !repo[0] || !given || !given[0]) {
        model_fail_status(r, 400, "missing_required_parameter",
                          "missing repo or tag query parameter");
        return;
    }
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    buf_init(&target, LIMIT_MODEL_NAME_BYTES);
    buf_init(&text, LIMIT_HTTP_TARGET_BYTES);
    buf_printf(&text, "%s:%s", repo, given);
    int rc = stored_name(a, buf_str(&text), &target, &err);
    if (rc == 0)
        rc = model_in_store(a, name, true, digest, &full, &err);
    if (rc == 0)
        rc = store_tag(a->cfg.store, buf_str(&target), digest, &err);
    model_tell_call(r, "tag", buf_str(&target), rc == 0 ? digest : "", 0, rc < 0 ? &err : NULL);
    if (rc < 0)
        model_fail(r, &err);
    else
        answer_tagged(r, name, buf_str(&target));
    buf_release(&full);
    buf_release(&target);
    buf_release(&text);
}

/* --- removal --- */

/* What was done, as Docker Model Runner lists it. */
static void put_done(struct buf *out, const char *what, const char *which)
{
    buf_printf(out, "%s{\"%s\":", out->len > 1 ? "," : "", what);
    json_put_str(out, str_from(which));
    buf_append_char(out, '}');
}

/* How many names point to it. */
static int names_of(struct store *s, const char *digest, struct store_list *ret, size_t *n,
                    struct err *err)
{
    int rc = store_list(s, ret, err);
    *n = 0;
    for (size_t i = 0; rc == 0 && i < ret->n; i++)
        *n += strcmp(ret->items[i].digest, digest) == 0 && ret->items[i].name[0];
    return rc;
}

/* By a name: the name, and the model when it was its last.  By id or digest: all. */
static int removed(struct api *a, const char *name, const char *digest, bool force, struct buf *out,
                   struct err *err)
{
    struct store_list l;
    size_t n_names = 0;
    bool is_gone = false;
    int rc = names_of(a->cfg.store, digest, &l, &n_names, err);
    if (rc < 0)
        return rc;
    bool by_name = name[0], takes_all = !by_name || n_names <= 1;
    if (!by_name && n_names > 1 && !force)
        rc =
            err_set(err, E_EXISTS,
                    "%zu names point to the model %.19s: remove them one by one, or all with force",
                    n_names, digest);
    if (rc == 0 && takes_all)
        rc = runner_give_up(a->cfg.runner, digest, force, err);
    if (rc == 0 && by_name) {
        rc = store_untag(a->cfg.store, name, &is_gone, err);
        if (rc == 0)
            put_done(out, "Untagged", name);
    } else if (rc == 0) {
        rc = store_remove(a->cfg.store, digest, err);
        is_gone = rc == 0;
        for (size_t i = 0; is_gone && i < l.n; i++) {
            if (l.items[i].name[0] && strcmp(l.items[i].digest, digest) == 0)
                put_done(out, "Untagged", l.items[i].name);
        }
    }
    if (is_gone)
        put_done(out, "Deleted", digest);
    store_list_release(&l);
    return rc;
}

static bool is_forced(struct httpd_request *r)
{
    const char *v = httpd_query_value(r, "force");
    return v && (strcmp(v, "true") == 0 || strcmp(v, "1") == 0);
}

static void purge(struct api *a, struct httpd_request *r)
{
    struct store_list l;
    struct err err = ERR_INIT;
    uint64_t freed = 0;
    bool force = is_forced(r);
    int rc = store_list(a->cfg.store, &l, &err);
    if (rc < 0) {
        model_fail(r, &err);
        return;
    }
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        struct err gone = ERR_INIT;
        rc = runner_give_up(a->cfg.runner, l.items[i].digest, force, &err);
        if (rc == 0 && store_remove(a->cfg.store, l.items[i].digest, &gone) < 0 &&
            gone.code != E_NOTFOUND) { /* it went with an earlier name */
            err = gone;
            rc = -err.code;
        }
    }
    if (rc == 0)
        rc = store_collect(a->cfg.store, 0, &freed, &err);
    model_tell_call(r, "purge", "", "", freed, rc < 0 ? &err : NULL);
    if (rc < 0)
        model_fail(r, &err);
    else
        httpd_answer(r, 200, NULL, STR_LIT(""));
    store_list_release(&l);
}

static void delete (struct api *a, struct httpd_request *r, const char *name)
{
    char digest[OCI_DIGEST_CHARS + 1];
    struct buf full, out;
    struct err err = ERR_INIT;
    if (strcmp(name, "purge") == 0) {
        purge(a, r);
        return;
    }
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    buf_init(&out, 4u << 20);
    buf_append_char(&out, '[');
    int rc = model_in_store(a, name, false, digest, &full, &err);
    if (rc == 0)
        rc = removed(a, buf_str(&full), digest, is_forced(r), &out, &err);
    buf_append_char(&out, ']');
    model_tell_call(r, "delete", full.len ? buf_str(&full) : name, rc == 0 ? digest : "", 0,
                    rc < 0 ? &err : NULL);
    if (rc < 0)
        model_fail(r, &err);
    else
        api_answer_json(r, 200, &out);
    buf_release(&full);
    buf_release(&out);
}

void handle_models_delete(struct api *a, struct httpd_request *r, const char *rest)
{
    model_blocking(a, r, rest, delete);
}

/* --- another context size --- */

/* Puts a small blob that nothing names yet, held so that no collection takes it. */
static int put_held(struct store *s, const struct buf *bytes, char ret[OCI_DIGEST_CHARS + 1],
                    struct err *err)
{
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, bytes->data, bytes->len);
    sha256_end(&h, ret);
    store_hold(s, ret);
    int rc = store_put(s, bytes->data, bytes->len, ret, err);
    if (rc < 0) {
        store_unhold(s, ret);
        ret[0] = '\0';
    }
    return rc;
}

/* The same layers under a new config. */
static int build_and_tag(struct store *s, const struct oci_package *p, struct arena *arena,
                         const char *target, char ret[OCI_DIGEST_CHARS + 1], struct err *err)
{
    struct buf config, manifest;
    char config_digest[OCI_DIGEST_CHARS + 1] = "";
    int rc = oci_package_build(p, arena, &config, &manifest, err);
    if (rc == 0)
        rc = put_held(s, &config, config_digest, err);
    if (rc == 0)
        rc = put_held(s, &manifest, ret, err);
    if (rc == 0)
        rc = store_tag(s, target, ret, err);
    if (config_digest[0])
        store_unhold(s, config_digest);
    if (ret[0])
        store_unhold(s, ret);
    buf_release(&config);
    buf_release(&manifest);
    return rc;
}

/* Layers that a removal of the old model would take meanwhile make the tag fail, not dangle. */
static int repackage(struct api *a, const char *digest, uint32_t context_size, const char *target,
                     char ret[OCI_DIGEST_CHARS + 1], struct err *err)
{
    struct store_model m;
    struct oci_package p;
    struct arena arena;
    arena_init(&arena, 64u << 20);
    int rc = store_model_read(a->cfg.store, digest, &m, err);
    if (rc == 0)
        rc = oci_package_from(m.manifest_text, m.config_text, &arena, &p, err);
    if (rc == 0 && context_size)
        p.config.context_size = context_size;
    if (rc == 0)
        rc = build_and_tag(a->cfg.store, &p, &arena, target, ret, err);
    store_model_release(&m);
    arena_release(&arena);
    return rc;
}

struct repackage_body {
    const char *target;
    uint32_t context_size;
};

static int read_repackage(struct httpd_request *r, const json_t *root, struct repackage_body *ret)
{
    const json_t *v = json_object_get(root, "context_size");
    int rc = model_text(r, root, "target", &ret->target);
    if (rc == 0)
        model_fail_status(r, 400, "missing_required_parameter", "target is required");
    if (rc <= 0)
        return -1;
    if (v && !json_is_null(v)) {
        json_int_t n = json_integer_value(v);
        if (!json_is_integer(v) || n < 1 || n > LIMIT_MODEL_CONTEXT) {
            model_fail_status(r, 400, "invalid_value",
                              "'context_size' must be a number of tokens from 1 to 16777216");
            return -1;
        }
        ret->context_size = (uint32_t)n;
    }
    return 0;
}

static void do_repackage(struct api *a, struct httpd_request *r, const char *name)
{
    struct repackage_body b = {0};
    char digest[OCI_DIGEST_CHARS + 1], new_digest[OCI_DIGEST_CHARS + 1] = "";
    struct buf full, target, out;
    struct err err = ERR_INIT;
    json_t *root = model_body(r, false);
    if (!root || read_repackage(r, root, &b) < 0) {
        json_decref(root);
        return;
    }
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    buf_init(&target, LIMIT_MODEL_NAME_BYTES);
    buf_init(&out, 16 * LIMIT_MODEL_NAME_BYTES);
    int rc = model_in_store(a, name, true, digest, &full, &err);
    if (rc == 0)
        rc = stored_name(a, b.target, &target, &err);
    if (rc == 0)
        rc = repackage(a, digest, b.context_size, buf_str(&target), new_digest, &err);
    model_tell_call(r, "repackage", buf_str(&target), new_digest, 0, rc < 0 ? &err : NULL);
    if (rc < 0) {
        model_fail(r, &err);
    } else {
        buf_append_str(&out, "{\"message\":\"Model repackaged successfully\",\"source\":");
        json_put_str(&out, str_from(name));
        buf_append_str(&out, ",\"target\":");
        json_put_str(&out, str_from(b.target));
        buf_printf(&out, ",\"id\":\"%s\"}", new_digest);
        api_answer_json(r, 201, &out);
    }
    buf_release(&full);
    buf_release(&target);
    buf_release(&out);
    json_decref(root);
}

/* POST /models/NAME/ACTION. */
void handle_models_action(struct api *a, struct httpd_request *r, const char *rest)
{
    const char *slash = strrchr(rest, '/');
    char text[128];
    const char *action = slash ? slash + 1 : rest;
    char *name = mem_dup(rest, slash ? (size_t)(slash - rest) : 0);
    if (name[0] && strcmp(action, "tag") == 0) {
        model_blocking(a, r, name, tag);
    } else if (name[0] && strcmp(action, "push") == 0) {
        model_push(a, r, name);
    } else if (name[0] && strcmp(action, "repackage") == 0) {
        model_blocking(a, r, name, do_repackage);
    } else {
        struct err err = ERR_INIT; /* cleans what it quotes */
        err_set(&err, E_NOTFOUND, "unknown action \"%.64s\"", action);
        snprintf(text, sizeof(text), "%s", err.msg);
        model_fail_status(r, 404, "not_found", text);
    }
    mem_free(name);
}
