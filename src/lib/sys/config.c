/* SPDX-License-Identifier: Apache-2.0 */
/* Implements config.h: the table, the three sources, and the folders that depend on the
 * environment. */
#include "lib/sys/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/near.h"
#include "lib/base/str.h"
#include "lib/sys/config_impl.h"

#define SYSTEM_FILE "/etc/berth/config" /* where a user has none */

static const struct config_option options[CONFIG_N_OPTIONS] = {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help)                               \
    [CONFIG_##field] = {key, CONFIG_##type, min, max, dflt, arg, choices, help},
#define ALIAS(name, key)
#define ENV(variable, key, value)
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
#undef ENV
};

static const struct {
    const char *name, *key;
} aliases[] = {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help)
#define ALIAS(name, key) {name, key},
#define ENV(variable, key, value)
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
#undef ENV
};

static const struct {
    const char *variable, *key, *value;
} foreign[] = {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help)
#define ALIAS(name, key)
#define ENV(variable, key, value) {variable, key, value},
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
#undef ENV
};

_Static_assert(CONFIG_N_OPTIONS <= 64, "config_load's want is 64 bits");

const struct config_option *config_option(enum config_id id)
{
    BUG_ON((unsigned)id >= CONFIG_N_OPTIONS);
    return &options[id];
}

enum config_id config_find(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(key, aliases[i].name) == 0)
            key = aliases[i].key;
    }
    int id = 0;
    while (id < CONFIG_N_OPTIONS && strcmp(key, options[id].key) != 0)
        id++;
    return (enum config_id)id;
}

void config_env_name(const char *key, char ret[64])
{
    size_t n = 0;
    for (const char *s = "BERTH_"; *s; s++)
        ret[n++] = *s;
    for (; *key && n < 63; key++)
        ret[n++] = *key == '-' ? '_' : (char)toupper((unsigned char)*key);
    ret[n] = '\0';
}

int config_value_set(struct config *c, enum config_id id, const char *text,
                     enum config_source source, struct err *err)
{
    const struct config_option *o = &options[id];
    struct config_value *v = &c->values[id];
    uint64_t number = 0;
    int ret = 0;
    switch (o->type) {
    case CONFIG_NUMBER: ret = config_parse_number(text, o->min, o->max, &number, err); break;
    case CONFIG_SIZE: ret = config_parse_size(text, o->min, o->max, &number, err); break;
    case CONFIG_CHOICE: ret = config_parse_choice(text, o->choices, &number, err); break;
    case CONFIG_SWITCH: ret = config_parse_switch(text, &number, err); break;
    case CONFIG_DURATION: ret = config_parse_duration(text, o->min, o->max, &number, err); break;
    case CONFIG_STRING:
    case CONFIG_SECRET:
        if (strlen(text) < o->min || strlen(text) > o->max)
            ret = err_set(err, E_INVALID, "'%.64s' must be %llu to %llu bytes long",
                          o->type == CONFIG_SECRET ? "(secret)" : text, (unsigned long long)o->min,
                          (unsigned long long)o->max);
        break;
    }
    if (ret < 0)
        return ret;
    mem_free(v->text);
    *v = (struct config_value){.text = mem_dup(text, strlen(text)), number, source, 0, NULL, NULL};
    return 0;
}

int config_set_flag(struct config *c, enum config_id id, const char *text, struct err *err)
{
    if (config_value_set(c, id, text, CONFIG_FROM_FLAG, err) < 0)
        return err_wrap(err, "--%s", options[id].key);
    return 0;
}

int config_program_dir(struct buf *out, struct err *err)
{
    char path[LIMIT_PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n < 0)
        return err_set_sys(err, E_IO, "reading where the program lies from /proc/self/exe");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    buf_append_str(out, path);
    return buf_status(out, "the program's folder", err);
}

int config_state_dir(struct buf *out, struct err *err)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/')
        buf_printf(out, "%s/berth", xdg);
    else if (home && home[0] == '/')
        buf_printf(out, "%s/.local/state/berth", home);
    else
        return err_set(
            err, E_NOTFOUND,
            "no place for berth's state: set HOME or XDG_STATE_HOME to an absolute path");
    return buf_status(out, "the state folder", err);
}

int config_docker_dir(const struct config *c, struct buf *out, struct err *err)
{
    const char *chosen = config_str(c, CONFIG_docker_config), *env = getenv("DOCKER_CONFIG"),
               *home = getenv("HOME");
    if (chosen[0])
        buf_append_str(out, chosen);
    else if (env && *env)
        buf_append_str(out, env);
    else if (home && home[0] == '/')
        buf_printf(out, "%s/.docker", home);
    return buf_status(out, "docker-config", err);
}

int config_store_dir(struct buf *out, struct err *err)
{
    const char *home = getenv("HOME");
    if (!home || home[0] != '/')
        return err_set(err, E_NOTFOUND,
                       "no place for a store of models: set HOME to an absolute path, or --store");
    buf_printf(out, "%s/.local/share/berth/store", home);
    return buf_status(out, "the store's folder", err);
}

/* The user's models, the installation's, and those of a source tree that the program was built in.
 */
static int default_models_dir(struct buf *out, struct err *err)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        buf_printf(out, "%s/.local/share/berth/models:", home);
    struct buf dir;
    buf_init(&dir, LIMIT_PATH_BYTES);
    int ret = config_program_dir(&dir, err);
    if (ret == 0) {
        const char *base = strrchr(buf_str(&dir), '/');
        int n_parent = base ? (int)(base - buf_str(&dir)) : 0;
        buf_printf(out, "%.*s/share/berth/models", n_parent, buf_str(&dir));
        if (base && strncmp(base, "/build", 6) == 0)
            buf_printf(out, ":%.*s/models", n_parent, buf_str(&dir));
        ret = buf_status(out, "models-dir", err);
    }
    buf_release(&dir);
    return ret;
}

const char *config_near(const char *key)
{
    const char *names[CONFIG_N_OPTIONS + ARRAY_LEN(aliases)];
    size_t n = 0;
    for (; n < CONFIG_N_OPTIONS; n++)
        names[n] = options[n].key;
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        names[n++] = aliases[i].name;
    return near_name(key, names, n);
}

/* The value of an option's own variable or of an alias's, whose key is *ret_key; NULL: none.  Empty
 * is as good as unset. */
static int own_env(enum config_id id, const char **ret, const char **ret_key, struct err *err)
{
    char name[64], other_name[64];
    config_env_name(options[id].key, name);
    const char *text = getenv(name);
    *ret = text && *text ? text : NULL;
    *ret_key = options[id].key;
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(aliases[i].key, options[id].key) != 0)
            continue;
        config_env_name(aliases[i].name, other_name);
        const char *other = getenv(other_name);
        if (!other || !*other)
            continue;
        if (*ret && strcmp(*ret, other) != 0)
            return err_set(
                err, E_INVALID,
                "%s and %s in the environment mean the same option and differ; unset one", name,
                other_name);
        if (!*ret) {
            *ret = other;
            *ret_key = aliases[i].name;
        }
    }
    return 0;
}

/* The value that another program's variable gives an option, or NULL. */
static const char *foreign_env(enum config_id id, const char **ret_variable)
{
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        if (strcmp(foreign[i].key, options[id].key) != 0)
            continue;
        const char *text = getenv(foreign[i].variable);
        *ret_variable = foreign[i].variable;
        if (text && *text)
            return foreign[i].value[0] ? foreign[i].value : text;
    }
    return NULL;
}

const char *config_foreign_env(enum config_id id, unsigned i)
{
    for (size_t k = 0; k < ARRAY_LEN(foreign); k++) {
        if (strcmp(foreign[k].key, options[id].key) == 0 && i-- == 0)
            return foreign[k].variable;
    }
    return NULL;
}

static int load_env(struct config *c, uint64_t want, struct err *err)
{
    for (int i = 0; i < CONFIG_N_OPTIONS; i++) {
        enum config_id id = (enum config_id)i;
        const char *key, *text, *variable = NULL;
        char name[64];
        if (!(want & (1ull << id)))
            continue;
        if (own_env(id, &text, &key, err) < 0)
            return -err->code;
        if (!text)
            text = foreign_env(id, &variable);
        if (!text)
            continue;
        config_env_name(key, name);
        if (config_value_set(c, id, text, CONFIG_FROM_ENV, err) < 0)
            return err_wrap(err, "%s in the environment", variable ? variable : name);
        c->values[id].variable = variable;
        c->values[id].alias = key == options[id].key ? NULL : key;
    }
    return 0;
}

int config_unknown_env(config_note_fn fn, void *ctx)
{
    extern char **environ;
    static const char prefix[] = "BERTH_";
    int n_unknown = 0;
    for (char **e = environ; e && *e; e++) {
        size_t n = strcspn(*e, "="), n_prefix = sizeof(prefix) - 1;
        char key[64], name[64];
        /* TEST: of the tests of berth itself. */
        if (strncmp(*e, prefix, n_prefix) != 0 || n - n_prefix >= sizeof(key) ||
            strncmp(*e + n_prefix, "TEST_", 5) == 0 || strncmp(*e, "BERTH_CONFIG=", 13) == 0)
            continue;
        for (size_t i = n_prefix; i < n; i++) {
            char c = (*e)[i];
            key[i - n_prefix] = c == '_' ? '-' : (char)tolower((unsigned char)c);
        }
        key[n - n_prefix] = '\0';
        enum config_id id = config_find(key);
        if (id < CONFIG_N_OPTIONS)
            continue;
        struct err note = ERR_INIT;
        const char *near = config_near(key);
        if (near)
            config_env_name(near, name);
        err_set(&note, E_INVALID, "%.*s in the environment means nothing to berth%s%s%s", (int)n,
                *e, near ? "; did you mean " : "", near ? name : "", near ? "?" : "");
        fn(ctx, note.msg);
        n_unknown++;
    }
    return n_unknown;
}

int config_path(const char *chosen, struct buf *out, bool *ret_there, struct err *err)
{
    const char *env = getenv("BERTH_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"),
               *home = getenv("HOME");
    if (!chosen && env && *env)
        chosen = env;
    *ret_there = chosen != NULL;
    if (chosen) {
        buf_append_str(out, chosen);
        return buf_status(out, "the configuration file's path", err);
    }
    if (xdg && xdg[0] == '/')
        buf_printf(out, "%s/berth/config", xdg);
    else if (home && home[0] == '/')
        buf_printf(out, "%s/.config/berth/config", home);
    if (out->len && !out->failed)
        *ret_there = access(buf_str(out), F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR);
    if (!*ret_there && access(SYSTEM_FILE, F_OK) == 0) {
        buf_clear(out);
        *ret_there = true;
    }
    if (!out->len)
        buf_append_str(out, SYSTEM_FILE);
    return buf_status(out, "the configuration file's path", err);
}

void config_defaults(struct config *c)
{
    *c = (struct config){0};
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        struct err bad = ERR_INIT;
        BUG_ON(config_value_set(c, (enum config_id)id, options[id].dflt, CONFIG_FROM_DEFAULT,
                                &bad) < 0);
    }
}

/* The first mistake becomes the err. */
static void keep_first(void *ctx, const char *sentence)
{
    struct err *err = ctx;
    if (!err->code)
        err_set(err, E_INVALID, "%s", sentence);
}

int config_load(struct config *c, uint64_t want, const char *file, struct err *err)
{
    struct buf path;
    bool there = false;
    config_defaults(c);
    buf_init(&path, LIMIT_PATH_BYTES);
    int ret = config_path(file, &path, &there, err);
    if (ret == 0 && there) {
        struct err bad = ERR_INIT;
        ret = config_file_read(c, want, buf_str(&path), keep_first, &bad, err);
        if (ret == 0 && bad.code) {
            *err = bad;
            ret = -bad.code;
        }
        c->file = buf_take(&path);
    }
    buf_release(&path);
    if (ret == 0)
        ret = load_env(c, want, err);
    struct config_value *dirs = &c->values[CONFIG_models_dir];
    if (ret == 0 && dirs->source == CONFIG_FROM_DEFAULT) {
        struct buf b;
        buf_init(&b, options[CONFIG_models_dir].max);
        ret = default_models_dir(&b, err);
        if (ret == 0) {
            mem_free(dirs->text);
            dirs->text = buf_take(&b);
        }
        buf_release(&b);
    }
    return ret;
}

int config_check(const char *file, config_note_fn fn, void *ctx, struct err *err)
{
    struct config c;
    config_defaults(&c);
    int rc = config_file_read(&c, UINT64_MAX, file, fn, ctx, err);
    config_release(&c);
    return rc;
}

void config_origin(const struct config *c, enum config_id id, struct buf *out)
{
    const struct config_value *v = &c->values[id];
    char name[64];
    switch (v->source) {
    case CONFIG_FROM_DEFAULT: buf_append_str(out, "default"); break;
    case CONFIG_FROM_FILE: buf_printf(out, "%s:%u", c->file, v->line); break;
    case CONFIG_FROM_ENV:
        config_env_name(v->alias ? v->alias : options[id].key, name);
        buf_append_str(out, v->variable ? v->variable : name);
        break;
    case CONFIG_FROM_FLAG: buf_printf(out, "--%s", options[id].key); break;
    }
}

bool config_can_edit_lines(void)
{
    const char *term = getenv("TERM");
    return term && *term && strcmp(term, "dumb") != 0;
}

const char *config_user_env(const char *name)
{
    return getenv(name);
}

const char *config_docker_socket(void)
{
    const char *path = getenv("DOCKER_CLI_PLUGIN_SOCKET");
    return path && *path ? path : NULL;
}

const char *config_http_proxy(void)
{
    const char *proxy = getenv("HTTP_PROXY");
    return proxy && *proxy && !getenv("http_proxy") ? proxy : NULL;
}

bool config_has_http_proxy(void)
{
    const char *proxy = getenv("http_proxy");
    return (proxy && *proxy) || config_http_proxy();
}

bool config_wants_color(void)
{
    const char *no = getenv("NO_COLOR");
    return !(no && *no) && config_can_edit_lines();
}

void config_release(struct config *c)
{
    for (int id = 0; id < CONFIG_N_OPTIONS; id++)
        mem_free(c->values[id].text);
    mem_free(c->file);
    *c = (struct config){0};
}
