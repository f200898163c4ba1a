/* SPDX-License-Identifier: Apache-2.0 */
/* What registries, hubs, helpers and config.json say, from any bytes: addresses, challenges, lists,
 * credentials. */
#include <string.h>

#include "daemon/registry/challenge.h"
#include "daemon/registry/credentials.h"
#include "daemon/registry/hub_files.h"
#include "daemon/registry/trust.h"
#include "lib/codec/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_url(struct str s)
{
    struct url base = {0}, u, again;
    struct err err = ERR_INIT;
    struct buf out;
    buf_init(&out, 4 * URL_BYTES);
    BUG_ON(url_parse(STR_LIT("https://a.example/b/c?d"), &base, &err) < 0);
    if (url_resolve(&base, s, &out, &err) == 0) {
        BUG_ON(url_parse(str_from(buf_str(&out)), &u, &err) < 0);
        if (trust_redirect(&base, &u, &err) == 0)
            BUG_ON(!u.is_https);
        if (trust_realm(NULL, &base, &u, &err) == 0)
            BUG_ON(!u.is_https || !str_has_suffix(str_from(u.host), STR_LIT("a.example")));
    }
    if (url_parse(s, &u, &err) == 0) {
        buf_clear(&out);
        url_put_origin(&u, &out);
        BUG_ON(url_parse(str_from(buf_str(&out)), &again, &err) < 0 ||
               !url_same_origin(&u, &again));
    }
    buf_release(&out);
}

/* A hub's listing, and what would be taken of it. */
static void try_tree(struct str s)
{
    struct arena a;
    struct hub_files f = {0};
    struct err err = ERR_INIT;
    char note[HUB_NOTE_BYTES], commit[GIT_BLOB_ID_CHARS + 1];
    struct str next;
    int64_t created;
    arena_init(&a, 16u << 20);
    if (hub_parse_tree(s, &a, &f, &err) == 0) {
        uint32_t n = f.n;
        if (hub_pick(&f, n % 2 ? "latest" : "Q8_0", note, &err) == 0)
            BUG_ON(f.n > n || f.n == 0);
        else
            BUG_ON(!err.msg[0]);
    }
    if (hub_parse_revision(s, commit, &created, &err) == 0)
        BUG_ON(strlen(commit) != GIT_BLOB_ID_CHARS);
    if (hub_next_page(s, &next))
        BUG_ON(next.p < s.p || next.p + next.len > s.p + s.len);
    hub_files_release(&f);
    arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct challenge c = {0};
    struct credentials k;
    struct err err = ERR_INIT;
    struct buf out, again;
    char helper[CREDENTIALS_HELPER_BYTES];
    if (size == 0)
        return 0;
    struct str s = {(const char *)data + 1, size - 1};
    switch (data[0] % 5) {
    case 0: try_url(s); break;
    case 1:
        challenge_add(&c, s);
        BUG_ON(strlen(c.realm) >= sizeof(c.realm));
        break;
    case 2:
        if (credentials_parse(s, "reg:5000", helper, &k, &err) == 0)
            credentials_release(&k);
        break;
    case 3: try_tree(s); break;
    default:
        if (credentials_parse_helper(s, &k, &err) == 0)
            credentials_release(&k);
        buf_init(&out, 1 << 20);
        buf_init(&again, 1 << 20);
        if (base64_decode(s, &out, &err) == 0) {
            base64_encode((struct str){out.data, out.len}, &again);
            BUG_ON(again.len != s.len);
        }
        buf_release(&out);
        buf_release(&again);
        break;
    }
    return 0;
}
