/* SPDX-License-Identifier: Apache-2.0 */
/* Implements config.h: the table, the three sources, and the folders that depend on the
 * environment. */
#include "lib/sys/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

static const struct config_option options[CONFIG_N_OPTIONS] = {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help)                               \
    [CONFIG_##field] = {key, CONFIG_##type, min, max, dflt, arg, choices, help},
#define ALIAS(name, key)
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
};

static const struct {
    const char *name, *key;
} aliases[] = {
#define OPTION(field, key, type, min, max, dflt, arg, choices, help)
#define ALIAS(name, key) {name, key},
#include "lib/sys/config.def"
#undef OPTION
#undef ALIAS
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

int config_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno)
        return err_set(err, E_INVALID, "'%s' is not a whole number from %llu to %llu", text,
                       (unsigned long long)min, (unsigned long long)max);
    if (v < min || v > max)
        return err_set(err, E_INVALID, "%s is out of range: from %llu to %llu", text,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return 0;
}

int config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    bool bad = !isdigit((unsigned char)text[0]) || errno;
    if (!bad && *end) {
        static const char units[] = "kmgt";
        const char *u = strchr(units, tolower((unsigned char)*end));
        bad = !u || !size_mul(v, 1ull << (10 * (u - units + 1)), &v);
        end++;
        if (!bad && (*end == 'i' || *end == 'I'))
            end++;
        if (!bad && (*end == 'b' || *end == 'B'))
            end++;
    }
    if (bad || *end)
        return err_set(err, E_INVALID,
                       "'%s' is not a size in bytes, such as 1073741824, 512M or 2G", text);
    if (v < min || v > max)
        return err_set(err, E_INVALID, "%s is out of range: from %llu to %llu bytes", text,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return 0;
}

int config_parse_duration(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                          struct err *err)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t sum = 0, v = 0;
    const char *s = text;
    bool bad = false;
    if (strcmp(text, "-1") == 0) {
        *ret = CONFIG_FOREVER;
        return 0;
    }
    do {
        char *end;
        errno = 0;
        uint64_t scale = 1;
        bad = !isdigit((unsigned char)*s);
        v = strtoull(s, &end, 10);
        bad |= errno != 0;
        if (*end) {
            size_t i = 0;
            while (i < ARRAY_LEN(units) && units[i].unit != *end)
                i++;
            bad |= i == ARRAY_LEN(units);
            scale = bad ? 1 : units[i].seconds;
            end++;
        } else {
            bad |= s != text; /* a bare number stands alone */
        }
        bad = bad || !size_mul(v, scale, &v) || !size_add(sum, v, &sum);
        s = end;
    } while (!bad && *s);
    if (bad)
        return err_set(err, E_INVALID,
                       "'%.64s' is not a time: give seconds, or units as in 90s, 5m, 1h30m, 2d, or "
                       "-1 for ever",
                       text);
    if (sum < min || sum > max)
        return err_set(err, E_INVALID, "%.64s is out of range: from %llu to %llu seconds, or -1",
                       text, (unsigned long long)min, (unsigned long long)max);
    *ret = sum;
    return 0;
}

static int parse_choice(const char *text, const char *choices, uint64_t *ret, struct err *err)
{
    size_t len = strlen(text);
    uint64_t i = 0;
    for (const char *s = choices; *s; i++) {
        size_t n = strcspn(s, "|");
        if (n == len && memcmp(s, text, n) == 0) {
            *ret = i;
            return 0;
        }
        s += n + (s[n] == '|');
    }
    return err_set(err, E_INVALID, "'%s' is not one of %s", text, choices);
}

static int parse_switch(const char *text, uint64_t *ret, struct err *err)
{
    static const char *const words[] = {"no", "yes", "0", "1", "off", "on", "false", "true"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = i & 1;
            return 0;
        }
    }
    return err_set(err, E_INVALID, "'%.64s' is neither yes nor no", text);
}

/* Checks text against the row and stores it. */
static int value_set(struct config_value *v, const struct config_option *o, const char *text,
                     enum config_source source, struct err *err)
{
    uint64_t number = 0;
    int ret = 0;
    switch (o->type) {
    case CONFIG_NUMBER: ret = config_parse_number(text, o->min, o->max, &number, err); break;
    case CONFIG_SIZE: ret = config_parse_size(text, o->min, o->max, &number, err); break;
    case CONFIG_CHOICE: ret = parse_choice(text, o->choices, &number, err); break;
    case CONFIG_SWITCH: ret = parse_switch(text, &number, err); break;
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
    *v = (struct config_value){mem_dup(text, strlen(text)), number, source};
    return 0;
}

int config_set_flag(struct config *c, enum config_id id, const char *text, struct err *err)
{
    if (value_set(&c->values[id], &options[id], text, CONFIG_FROM_FLAG, err) < 0)
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

/* 1 and the file's text; 0 when there is no such file. */
static int file_read(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0)
        return err_set_sys(err, E_IO, "opening %s", path);
    ssize_t n = 0;
    int ret = 0;
    do {
        ret = buf_reserve(out, 4096);
        if (ret == 0) {
            n = read(fd, out->data + out->len, 4096);
            out->len += n > 0 ? (size_t)n : 0;
            out->data[out->len] = '\0'; /* buf_reserve leaves that to who fills the room */
        }
    } while (ret == 0 && n > 0);
    if (ret < 0)
        ret = buf_status(out, path, err);
    else if (n < 0)
        ret = err_set_sys(err, E_IO, "reading %s", path);
    close(fd);
    return ret < 0 ? ret : 1;
}

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    s[n] = '\0';
    return s;
}

static int file_line(struct config *c, uint64_t want, const char *path, unsigned n_line, char *line,
                     struct err *err)
{
    char *hash = strchr(line, '#');
    if (hash)
        *hash = '\0';
    line = trim(line);
    if (!*line)
        return 0;
    char *eq = strchr(line, '=');
    if (!eq)
        return err_set(err, E_INVALID, "%s, line %u: '%.64s' is not `key = value`", path, n_line,
                       line);
    *eq = '\0';
    const char *key = trim(line);
    enum config_id id = config_find(key);
    if (id == CONFIG_N_OPTIONS)
        return err_set(err, E_INVALID, "%s, line %u: there is no option '%.64s'", path, n_line,
                       key);
    if (!(want & (1ull << id)))
        return 0;
    if (value_set(&c->values[id], &options[id], trim(eq + 1), CONFIG_FROM_FILE, err) < 0)
        return err_wrap(err, "%s, line %u: %s", path, n_line, key);
    return 0;
}

static int load_file(struct config *c, uint64_t want, struct err *err)
{
    struct buf path, text;
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_init(&text, 64 << 10);
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/')
        buf_printf(&path, "%s/berth/config", xdg);
    else if (home && home[0] == '/')
        buf_printf(&path, "%s/.config/berth/config", home);
    int ret = path.len ? file_read(buf_str(&path), &text, err) : 0;
    if (ret == 0) {
        buf_clear(&path);
        buf_append_str(&path, "/etc/berth/config");
        ret = file_read(buf_str(&path), &text, err);
    }
    char *s = ret > 0 && text.data ? text.data : NULL;
    for (unsigned n = 1; s && ret >= 0; n++) {
        char *nl = strchr(s, '\n');
        if (nl)
            *nl = '\0';
        ret = file_line(c, want, buf_str(&path), n, s, err);
        s = nl ? nl + 1 : NULL;
    }
    buf_release(&text);
    buf_release(&path);
    return ret < 0 ? ret : 0;
}

static int load_env(struct config *c, uint64_t want, struct err *err)
{
    char name[64];
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        if (!(want & (1ull << id)))
            continue;
        config_env_name(options[id].key, name);
        const char *text = getenv(name);
        for (size_t i = 0; !text && i < ARRAY_LEN(aliases); i++) {
            if (strcmp(aliases[i].key, options[id].key) == 0) {
                config_env_name(aliases[i].name, name);
                text = getenv(name);
            }
        }
        if (text && *text &&
            value_set(&c->values[id], &options[id], text, CONFIG_FROM_ENV, err) < 0)
            return err_wrap(err, "%s in the environment", name);
    }
    return 0;
}

int config_load(struct config *c, uint64_t want, struct err *err)
{
    *c = (struct config){0};
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        struct err bad = ERR_INIT;
        BUG_ON(value_set(&c->values[id], &options[id], options[id].dflt, CONFIG_FROM_DEFAULT,
                         &bad) < 0);
    }
    int ret = load_file(c, want, err);
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

void config_release(struct config *c)
{
    for (int id = 0; id < CONFIG_N_OPTIONS; id++)
        mem_free(c->values[id].text);
    *c = (struct config){0};
}
