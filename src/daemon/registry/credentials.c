/* SPDX-License-Identifier: Apache-2.0 */
/* Implements credentials.h. */
#include "daemon/registry/credentials.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/codec/base64.h"
#include "lib/codec/json.h"
#include "lib/sys/command.h"
#include "lib/sys/file.h"

#define HUB_KEY           "https://index.docker.io/v1/" /* as Docker has always called its own */
#define CONFIG_BYTES      (1u << 20)
#define HELPER_BYTES      (64u << 10)
#define HELPER_TIMEOUT_MS 15000u

void credentials_release(struct credentials *c)
{
    char *owned[] = {c->username, c->secret, c->identity_token, c->registry_token};
    for (size_t i = 0; i < ARRAY_LEN(owned); i++) {
        if (owned[i])
            explicit_bzero(owned[i], strlen(owned[i]));
        mem_free(owned[i]);
    }
    *c = (struct credentials){0};
}

static bool is_docker_hub(struct str host)
{
    return str_is(host, "docker.io") || str_is(host, "index.docker.io") ||
           str_is(host, "registry-1.docker.io");
}

/* A key of "auths" or "credHelpers" means the registry: with or without scheme and path. */
static bool key_means(const char *key, const char *registry)
{
    struct str host = str_from(key);
    static const struct str schemes[] = {STR_LIT("https://"), STR_LIT("http://")};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        if (host.len > schemes[i].len && strncasecmp(key, schemes[i].p, schemes[i].len) == 0)
            host = (struct str){key + schemes[i].len, host.len - schemes[i].len};
    }
    const char *slash = memchr(host.p, '/', host.len);
    struct str path = {slash, slash ? host.len - (size_t)(slash - host.p) : 0};
    host.len -= path.len;
    /* A path that is more than the API's belongs to a part of a registry, not to all of it. */
    if (path.len > 1 && !str_is(path, "/v1/") && !str_is(path, "/v2/") && !str_is(path, "/v1") &&
        !str_is(path, "/v2"))
        return false;
    return (host.len == strlen(registry) && strncasecmp(host.p, registry, host.len) == 0) ||
           (is_docker_hub(host) && is_docker_hub(str_from(registry)));
}

/* The value of the key that means the registry best; NULL when none does. */
static const json_t *entry_find(const json_t *obj, const char *registry)
{
    const char *key;
    json_t *v;
    const json_t *found = json_object_get(obj, registry);
    json_object_foreach((json_t *)(uintptr_t)obj, key, v)
    {
        if (!found && key_means(key, registry))
            found = v;
    }
    return found;
}

/* Text that can stand in a header or in a helper's answer; NULL otherwise. */
static char *take_text(struct str s)
{
    if (s.len == 0 || s.len > HELPER_BYTES || memchr(s.p, '\0', s.len) ||
        memchr(s.p, '\n', s.len) || memchr(s.p, '\r', s.len))
        return NULL;
    return mem_dup(s.p, s.len);
}

/* "auth": base64 of "user:password". */
static int take_auth(struct str encoded, struct credentials *ret, struct err *err)
{
    struct buf b;
    buf_init(&b, HELPER_BYTES);
    int rc = base64_decode(encoded, &b, err);
    struct str all = {b.data, b.len};
    while (rc == 0 && all.len && all.p[all.len - 1] == '\0')
        all.len--; /* some writers pad with NULs */
    const char *colon = rc == 0 && all.len ? memchr(all.p, ':', all.len) : NULL;
    if (rc == 0 && !colon)
        rc = err_set(err, E_FORMAT, "'auth' is not user:password");
    if (rc == 0) {
        size_t n = (size_t)(colon - all.p);
        ret->username = take_text((struct str){all.p, n});
        ret->secret = take_text((struct str){colon + 1, all.len - n - 1});
    }
    if (b.data)
        explicit_bzero(b.data, b.len);
    buf_release(&b);
    return rc < 0 ? err_wrap(err, "auths") : 0;
}

static int take_entry(const json_t *entry, struct credentials *ret, struct err *err)
{
    static const char *const names[] = {"username", "password", "identitytoken", "registrytoken"};
    char **to[] = {&ret->username, &ret->secret, &ret->identity_token, &ret->registry_token};
    struct str s;
    if (!json_is_object(entry))
        return 0;
    int rc = json_field_str(entry, "auth", &s, err);
    if (rc == 1 && s.len)
        rc = take_auth(s, ret, err);
    for (size_t i = 0; rc >= 0 && i < ARRAY_LEN(names); i++) {
        rc = json_field_str(entry, names[i], &s, err);
        if (rc == 1 && s.len && !*to[i])
            *to[i] = take_text(s);
    }
    return MIN_OF(rc, 0);
}

static int take_helper(struct str name, char helper[CREDENTIALS_HELPER_BYTES], struct err *err)
{
    bool ok = name.len > 0 && name.len < CREDENTIALS_HELPER_BYTES;
    for (size_t i = 0; ok && i < name.len; i++)
        ok = isalnum((unsigned char)name.p[i]) || (name.p[i] && strchr("._-", name.p[i]));
    if (!ok)
        return err_set(err, E_FORMAT, "'%.*s' cannot be the name of a credential helper",
                       (int)MIN_OF(name.len, 100), name.p);
    snprintf(helper, CREDENTIALS_HELPER_BYTES, "%.*s", STR_ARG(name));
    return 0;
}

int credentials_parse(struct str text, const char *registry, char helper[CREDENTIALS_HELPER_BYTES],
                      struct credentials *ret, struct err *err)
{
    json_t *root = NULL;
    const json_t *helpers = NULL, *auths = NULL, *entry;
    struct str s;
    helper[0] = '\0';
    *ret = (struct credentials){0};
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is not an object");
    if (rc == 0)
        rc = json_field_obj(root, "credHelpers", &helpers, err);
    entry = rc == 1 ? entry_find(helpers, registry) : NULL;
    if (entry && json_is_string(entry)) {
        rc = take_helper(str_from(json_string_value(entry)), helper, err);
    } else if (rc >= 0) {
        rc = json_field_str(root, "credsStore", &s, err);
        if (rc == 1 && s.len)
            rc = take_helper(s, helper, err);
    }
    if (rc >= 0)
        rc = json_field_obj(root, "auths", &auths, err);
    if (rc == 1 && (entry = entry_find(auths, registry)))
        rc = take_entry(entry, ret, err);
    json_decref(root);
    if (rc < 0)
        credentials_release(ret);
    return MIN_OF(rc, 0);
}

int credentials_parse_helper(struct str text, struct credentials *ret, struct err *err)
{
    json_t *root = NULL;
    struct str user = STR_LIT(""), secret = STR_LIT("");
    *ret = (struct credentials){0};
    int rc = json_parse(text, &root, err);
    if (rc == 0 && !json_is_object(root))
        rc = err_set(err, E_FORMAT, "it is not an object");
    if (rc == 0)
        rc = json_field_str(root, "Username", &user, err);
    if (rc >= 0)
        rc = json_field_str(root, "Secret", &secret, err);
    if (rc >= 0 && str_is(user, "<token>")) {
        ret->identity_token = take_text(secret);
    } else if (rc >= 0) {
        ret->username = take_text(user);
        ret->secret = take_text(secret);
    }
    json_decref(root);
    return MIN_OF(rc, 0);
}

static int ask_helper(const char *helper, const char *registry, struct credentials *ret,
                      struct err *err)
{
    char program[CREDENTIALS_HELPER_BYTES + 32];
    struct buf out;
    int status = 0;
    const char *key = is_docker_hub(str_from(registry)) ? HUB_KEY : registry;
    snprintf(program, sizeof(program), "docker-credential-%s", helper);
    const char *argv[] = {program, "get", NULL};
    buf_init(&out, HELPER_BYTES);
    int rc = command_run(argv, str_from(key), &out, HELPER_TIMEOUT_MS, &status, err);
    struct str said = {out.data, out.len};
    if (rc == 0 && status == 0)
        rc = credentials_parse_helper(said, ret, err);
    /* "credentials not found in native keychain" is how helpers say that there are none. */
    else if (rc == 0 && !(out.len && strcasestr(buf_str(&out), "not found")))
        rc = err_set(err, E_AUTH, "it ended with status %d", status);
    if (out.data)
        explicit_bzero(out.data, out.len);
    buf_release(&out);
    return rc < 0 ? err_wrap(err, "asking %s for the credentials of %s", program, registry) : 0;
}

int credentials_find(const char *dir, const char *registry, struct credentials *ret,
                     struct err *err)
{
    char path[LIMIT_PATH_BYTES + 16], helper[CREDENTIALS_HELPER_BYTES];
    struct buf text;
    struct err e = ERR_INIT;
    *ret = (struct credentials){0};
    if (!dir || !dir[0])
        return 0;
    snprintf(path, sizeof(path), "%s/config.json", dir);
    int rc = file_read_regular(path, CONFIG_BYTES, &text, &e);
    if (rc == 0) {
        rc = credentials_parse((struct str){text.data, text.len}, registry, helper, ret, &e);
        if (rc < 0)
            err_wrap(&e, "%s", path);
    } else if (e.code == E_NOTFOUND) {
        buf_release(&text);
        return 0;
    }
    if (rc == 0 && helper[0]) {
        struct credentials asked;
        rc = ask_helper(helper, registry, &asked, &e);
        if (rc == 0 && (asked.username || asked.identity_token)) {
            credentials_release(ret);
            *ret = asked;
        }
    }
    if (text.data)
        explicit_bzero(text.data, text.len);
    buf_release(&text);
    if (rc < 0) {
        credentials_release(ret);
        *err = e;
    }
    return rc;
}
