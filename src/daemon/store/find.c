/* SPDX-License-Identifier: Apache-2.0 */
/* Implements store_find: from what a user writes to a stored model. */
#include <string.h>

#include "daemon/store/model.h"
#include "daemon/store/store_impl.h"
#include "lib/base/limits.h"

/* name ends in "/text", or in "/text:TAG" for a text without one. */
static bool is_part(const char *name, struct str text)
{
    struct str n = str_from(name);
    bool has_tag = memchr(text.p, ':', text.len) != NULL;
    const char *colon = strrchr(name, ':'), *slash = strrchr(name, '/');
    if (!has_tag && colon && (!slash || colon > slash))
        n.len = (size_t)(colon - name);
    return n.len > text.len && n.p[n.len - text.len - 1] == '/' && str_has_suffix(n, text);
}

static int find_part(struct store *s, struct str text, char ret[OCI_DIGEST_CHARS + 1],
                     struct buf *ret_name, struct err *err)
{
    struct store_list l;
    const struct store_entry *found = NULL;
    int rc = store_list(s, &l, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct store_entry *e = &l.items[i];
        if (!is_part(e->name, text))
            continue;
        if (found && strcmp(found->digest, e->digest) != 0)
            rc = err_set(err, E_EXISTS, "%.*s may mean %s or %s: give more of the name",
                         STR_ARG(text), found->name, e->name);
        found = found ? found : e;
    }
    if (rc == 0 && !found)
        rc = err_set(err, E_NOTFOUND, "there is no model %.*s here", STR_ARG(text));
    if (rc == 0) {
        memcpy(ret, found->digest, sizeof(found->digest));
        buf_append_str(ret_name, found->name);
    }
    store_list_release(&l);
    return rc;
}

static int find_id(struct store *s, struct str text, char ret[OCI_DIGEST_CHARS + 1],
                   struct err *err)
{
    const struct str prefix = STR_LIT("sha256:");
    if (str_has_prefix(text, prefix))
        text = (struct str){text.p + prefix.len, text.len - prefix.len};
    return store_resolve_id(s, text, ret, err);
}

/* By its digest, whatever it is called here; by its name otherwise. */
static int find_reference(struct store *s, const struct oci_reference *r,
                          char ret[OCI_DIGEST_CHARS + 1], struct buf *ret_name, struct err *err)
{
    struct oci_reference plain = *r;
    struct buf name;
    if (r->digest[0])
        return find_id(s, str_from(r->digest), ret, err);
    buf_init(&name, LIMIT_MODEL_NAME_BYTES);
    oci_reference_put(&plain, &name);
    int rc = buf_status(&name, "a model's name", err);
    if (rc == 0)
        rc = store_resolve(s, buf_str(&name), ret, err);
    if (rc == 0)
        buf_append(ret_name, name.data, name.len);
    buf_release(&name);
    return rc;
}

int store_find(struct store *s, struct str text, const char *default_registry, bool partial,
               char ret[OCI_DIGEST_CHARS + 1], struct buf *ret_name, struct err *err)
{
    struct oci_reference r;
    if (oci_may_be_id(text)) {
        int rc = find_id(s, text, ret, err);
        if (rc != -E_NOTFOUND)
            return rc;
    }
    int rc = oci_reference_parse(text, default_registry, &r, err);
    if (rc == 0)
        rc = find_reference(s, &r, ret, ret_name, err);
    if (rc == -E_NOTFOUND && partial && !r.digest[0])
        rc = find_part(s, text, ret, ret_name, err);
    if (rc == 0)
        rc = buf_status(ret_name, "a model's name", err);
    return rc;
}
