/* SPDX-License-Identifier: Apache-2.0 */
/* `berth lock`: which models a project names, what is locked of them, and whether it is so. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/artifact/artifact.h"
#include "cli/commands.h"
#include "cli/lock/compose.h"
#include "cli/lock/lock.h"
#include "cli/models.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/sys/file.h"

struct locking {
    const struct cli_args *a;
    struct client client;
    json_t *wanted; /* owned: {NAME: parameters, or null: those the daemon has} */
    json_t *models; /* owned: the entries of the new lock */
    json_t *notes;  /* owned: what differs */
};

static void note(void *ctx, const char *sentence)
{
    (void)ctx;
    fprintf(stderr, "berth: %s\n", sentence);
}

static void differ(void *ctx, const char *sentence)
{
    struct locking *l = ctx;
    json_array_append_new(l->notes, json_string(sentence));
    if (!cli_has(l->a, "json"))
        puts(sentence);
}

/* --- which models --- */

/* parameters' reference is taken. */
static int want(struct locking *l, const char *model, json_t *parameters, struct err *err)
{
    struct buf name;
    struct err ignored = ERR_INIT;
    json_t *answer = NULL;
    buf_init(&name, LIMIT_PATH_BYTES);
    /* A bare name may be a file's of models-dir, which stands under it as it is. */
    bool is_file = !strpbrk(model, "/:@") &&
                   client_json(&l->client, "GET", "/berth/v1/models", NULL, &answer, &ignored) == 0;
    if (is_file) {
        const json_t *m = models_pick(json_object_get(answer, "models"), model);
        is_file = m && strcmp(answer_text(m, "source"), "file") == 0;
    }
    int rc = 0;
    if (is_file)
        buf_append_str(&name, model);
    else
        rc = lock_name(&l->client, model, &name, err);
    const json_t *had = rc == 0 ? json_object_get(l->wanted, buf_str(&name)) : NULL;
    if (had && !json_equal((json_t *)had, parameters))
        rc = err_set(
            err, E_INVALID,
            "%.128s is declared twice, with different parameters; the daemon keeps one set of "
            "a model",
            model);
    if (rc == 0)
        json_object_set(l->wanted, buf_str(&name), parameters);
    json_decref(parameters);
    json_decref(answer);
    buf_release(&name);
    return rc;
}

/* What Compose would declare of it. */
static json_t *compose_parameters(const json_t *m)
{
    json_t *p = json_object();
    const json_t *flags = json_object_get(m, "runtime_flags");
    if (json_object_get(m, "context_size"))
        json_object_set(p, "context-size", json_object_get(m, "context_size"));
    if (json_array_size(flags))
        json_object_set(p, "runtime-flags", (json_t *)flags);
    return p;
}

static const char *compose_file(const struct cli_args *a)
{
    static const char *const names[] = {"compose.yaml", "compose.yml", "docker-compose.yaml",
                                        "docker-compose.yml"};
    const char *given = cli_flag(a, "compose");
    for (size_t i = 0; !given && i < ARRAY_LEN(names); i++) {
        if (access(names[i], F_OK) == 0)
            given = names[i];
    }
    return given;
}

static int want_compose(struct locking *l, const char *file, struct err *err)
{
    struct buf text;
    json_t *models = NULL;
    const json_t *m;
    size_t i;
    int rc = file_read_all(file, COMPOSE_MAX_BYTES, &text, err);
    if (rc == 0)
        rc = compose_models(file, (struct str){buf_str(&text), text.len}, config_user_env, note,
                            NULL, &models, err);
    json_array_foreach(models, i, m)
    {
        if (rc == 0)
            rc = want(l, answer_text(m, "model"), compose_parameters(m), err);
    }
    if (rc == 0 && json_array_size(models) == 0)
        rc = err_set(err, E_NOTFOUND,
                     "%s declares no models; name them, as in `berth lock smollm2`", file);
    json_decref(models);
    buf_release(&text);
    return rc;
}

/* Those of the lock that is there. */
static int want_locked(struct locking *l, struct err *err)
{
    json_t *lock = NULL, *entry;
    const char *name;
    int rc = lock_read(LOCK_FILE, &lock, err);
    json_object_foreach(json_object_get(lock, "models"), name, entry)
        json_object_set_new(l->wanted, name, json_null());
    json_decref(lock);
    return rc;
}

static int find_wanted(struct locking *l, struct err *err)
{
    const char *file = l->a->n_operands ? NULL : compose_file(l->a);
    int rc = 0;
    if (file)
        return want_compose(l, file, err);
    if (l->a->n_operands == 0)
        rc = want_locked(l, err);
    if (rc == -E_NOTFOUND)
        return err_set(
            err, E_NOTFOUND,
            "there is neither a Compose file nor a %s here: name the models, as in `berth "
            "lock smollm2`",
            LOCK_FILE);
    for (unsigned i = 0; rc == 0 && i < l->a->n_operands; i++)
        rc = want(l, l->a->operands[i], json_null(), err);
    return rc;
}

/* --- writing --- */

/* What a model is now, or in its registry where it is not here, or --update says so. */
static int state_of(struct locking *l, const char *name, json_t **ret, struct err *err)
{
    bool updates = cli_has(l->a, "update");
    int rc = updates ? -E_NOTFOUND : lock_state(&l->client, name, false, ret, err);
    if (rc != -E_NOTFOUND)
        return rc;
    struct err why = ERR_INIT;
    rc = lock_state(&l->client, name, true, ret, &why);
    if (rc < 0) {
        *err = why;
        err_wrap(err, updates ? "%s" : "%s is not in the store, and its registry does not tell it",
                 name);
    }
    return rc;
}

static int write_new(struct locking *l, struct err *err)
{
    const char *name;
    json_t *parameters;
    struct buf engine;
    int rc = 0;
    buf_init(&engine, 256);
    json_object_foreach(l->wanted, name, parameters)
    {
        json_t *state = NULL;
        rc = state_of(l, name, &state, err);
        if (rc < 0)
            break;
        if (!json_is_null(parameters))
            json_object_set(state, "parameters", parameters);
        json_object_set_new(l->models, name, state);
    }
    if (rc == 0)
        rc = lock_engine(&l->client, &engine, err);
    if (rc == 0) {
        json_t *lock = json_pack("{s:s, s:O, s:i}", "engine", buf_str(&engine), "models", l->models,
                                 "version", 1);
        rc = lock_write(LOCK_FILE, lock, err);
        if (rc == 0 && cli_has(l->a, "json"))
            cli_print_json(lock);
        json_decref(lock);
    }
    buf_release(&engine);
    return rc;
}

static void print_locked(const json_t *models)
{
    static const char *const titles[] = {"MODEL", "DIGEST", "PARAMETERS"};
    struct table t;
    const char *name;
    json_t *m;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_object_foreach((json_t *)models, name, m)
    {
        char *p = json_dumps(json_object_get(m, "parameters"), JSON_COMPACT | JSON_SORT_KEYS);
        char shown[80];
        snprintf(shown, sizeof(shown), "%s", p && strcmp(p, "{}") != 0 ? p : "");
        table_add(&t, name);
        table_add(&t, answer_text(m, "digest"));
        table_add(&t, shown);
        mem_free(p); /* jansson's, of the same allocator */
    }
    table_print(&t);
    table_release(&t);
}

/* --- checking --- */

/* What the Compose file, or the command line, names beside what is locked. */
static void check_wanted(struct locking *l, const json_t *lock)
{
    const json_t *models = json_object_get(lock, "models");
    const char *name;
    json_t *v;
    char text[512];
    bool is_compose = !l->a->n_operands && compose_file(l->a);
    json_object_foreach(l->wanted, name, v)
    {
        const json_t *entry = json_object_get(models, name);
        snprintf(text, sizeof(text), "%.256s is not in the lock", name);
        if (!entry)
            differ(l, text);
        if (entry && !json_is_null(v) && !json_equal(v, json_object_get(entry, "parameters"))) {
            snprintf(text, sizeof(text),
                     "the parameters of %.256s are others in %.64s than in the lock", name,
                     compose_file(l->a));
            differ(l, text);
        }
    }
    json_object_foreach((json_t *)models, name, v)
    {
        snprintf(text, sizeof(text), "%.256s is in the lock, and no longer in %.64s", name,
                 is_compose ? compose_file(l->a) : "");
        if (is_compose && !json_object_get(l->wanted, name))
            differ(l, text);
    }
}

/* The daemon against the lock.  Parameters that a Compose file declares reach the daemon with
 * Compose, or with --apply: without with_parameters they are left out. */
static int check_state(struct locking *l, const json_t *lock, bool with_parameters, struct err *err)
{
    const char *name, *locked = answer_text(lock, "engine");
    json_t *entry;
    struct buf engine;
    char text[512];
    buf_init(&engine, 256);
    int rc = lock_engine(&l->client, &engine, err);
    if (rc == 0 && strcmp(buf_str(&engine), locked) != 0) {
        snprintf(text, sizeof(text), "the engine is %s here, and %.64s in the lock",
                 buf_str(&engine), locked);
        differ(l, text);
    }
    buf_release(&engine);
    json_object_foreach(json_object_get(lock, "models"), name, entry)
    {
        struct err why = ERR_INIT;
        json_t *state = NULL;
        if (rc < 0)
            break;
        int found = lock_state(&l->client, name, false, &state, &why);
        snprintf(text, sizeof(text), "%.256s is in the lock, and not here", name);
        if (found == 0 && !with_parameters)
            json_object_set(state, "parameters", json_object_get(entry, "parameters"));
        if (found == -E_NOTFOUND)
            differ(l, text);
        else if (found < 0)
            rc = (*err = why, found);
        else
            lock_compare(name, entry, state, differ, l);
        json_decref(state);
    }
    return rc;
}

static int check(struct locking *l, struct err *err)
{
    json_t *lock = NULL;
    int rc = lock_read(LOCK_FILE, &lock, err);
    if (rc == 0) {
        check_wanted(l, lock);
        rc = check_state(l, lock, l->a->n_operands || !compose_file(l->a), err);
    }
    if (rc == 0 && cli_has(l->a, "json")) {
        json_t *j = json_pack("{s:b, s:O}", "is_locked", json_array_size(l->notes) == 0,
                              "differences", l->notes);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0 && json_array_size(l->notes) == 0) {
        size_t n = json_object_size(json_object_get(lock, "models"));
        printf("%zu model%s as %s says\n", n, n == 1 ? " is" : "s are", LOCK_FILE);
    }
    json_decref(lock);
    return rc;
}

/* --- applying --- */

static int declare(struct locking *l, const char *name, const json_t *parameters, struct err *err)
{
    json_t *answer = NULL, *body;
    const char *path = "/berth/v1/configure";
    if (json_object_get(parameters, "runtime-flags")) {
        path = "/engines/_configure";
        body = json_deep_copy(parameters);
        json_object_set_new(body, "model", json_string(name));
    } else {
        json_t *settings = json_deep_copy(parameters);
        json_object_del(settings, "chat-template"); /* known by its digest alone */
        body = json_pack("{s:s, s:o, s:b}", "model", name, "settings", settings, "replace", 1);
    }
    int rc = client_json(&l->client, "POST", path, body, &answer, err);
    json_decref(answer);
    json_decref(body);
    return rc;
}

/* Fetches the locked bytes unless they are here, and gives them the name. */
static int fetch(struct locking *l, const char *name, const char *digest, struct err *err)
{
    struct buf ref;
    struct transfer t = {.id = ""};
    json_t *m = NULL;
    struct err ignored = ERR_INIT;
    buf_init(&ref, LIMIT_PATH_BYTES);
    buf_printf(&ref, "%s@%s", name, digest);
    int rc = artifact_model(&l->client, digest, false, &m, &ignored);
    json_decref(m);
    m = NULL;
    if (rc < 0)
        rc = artifact_pull(&l->client, buf_str(&ref),
                           cli_has(l->a, "json") ? TRANSFER_QUIET : TRANSFER_BERTH, &t, err);
    transfer_release(&t);
    if (rc == 0 && (artifact_model(&l->client, name, false, &m, &ignored) < 0 ||
                    strcmp(answer_text(m, "id"), digest) != 0))
        rc = artifact_tag(&l->client, digest, name, err);
    json_decref(m);
    buf_release(&ref);
    return rc;
}

static int apply(struct locking *l, struct err *err)
{
    json_t *lock = NULL, *entry;
    const char *name;
    int rc = lock_read(LOCK_FILE, &lock, err);
    json_object_foreach(json_object_get(lock, "models"), name, entry)
    {
        if (rc == 0 && !*answer_text(entry, "source"))
            rc = fetch(l, name, answer_text(entry, "digest"), err);
        if (rc == 0)
            rc = declare(l, name, json_object_get(entry, "parameters"), err);
    }
    if (rc == 0)
        rc = check_state(l, lock, true, err);
    if (rc == 0 && cli_has(l->a, "json"))
        cli_print_json(lock);
    else if (rc == 0)
        print_locked(json_object_get(lock, "models"));
    json_decref(lock);
    return rc;
}

int cmd_lock(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct locking l = {
        .a = a, .wanted = json_object(), .models = json_object(), .notes = json_array()};
    bool checks = cli_has(a, "check"), applies = cli_has(a, "apply");
    int rc = 0;
    if (checks + applies + cli_has(a, "update") > 1) {
        err_set(&err, E_INVALID, "--check, --apply and --update exclude each other");
        rc = -E_INVALID;
    }
    if (rc == 0)
        rc = artifact_client(a, &l.client, &err);
    if (rc == 0 && !applies)
        rc = find_wanted(&l, &err);
    if (rc == 0)
        rc = checks ? check(&l, &err) : applies ? apply(&l, &err) : write_new(&l, &err);
    if (rc == 0 && !checks && !applies && !cli_has(a, "json"))
        print_locked(l.models);
    bool is_wrong = json_array_size(l.notes) > 0;
    json_decref(l.wanted);
    json_decref(l.models);
    json_decref(l.notes);
    if (rc == -E_CANCELED)
        return CLI_INTERRUPTED;
    return rc < 0 ? cli_fail(&err) : is_wrong ? CLI_FAILED : CLI_OK;
}
