/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: `key = value` lines.
 *
 * A `#` at the beginning of a line or after a space begins a comment; a value that begins or ends
 * with spaces, or holds " #", stands in double quotes.  A key stands once. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/str.h"
#include "lib/sys/config_impl.h"

#define FILE_MAX_BYTES (256u << 10)

struct reading {
    struct config *c;
    uint64_t want;
    const char *path;
    unsigned line;
    unsigned first[CONFIG_N_OPTIONS]; /* line that gave it, 0: none so far */
};

static int unreadable(const char *path, int errnum, struct err *err)
{
    if (errnum == ENOENT || errnum == ENOTDIR)
        return err_set(err, E_NOTFOUND,
                       "there is no configuration file %s; name one that is there with --config "
                       "FILE or BERTH_CONFIG, or leave both away",
                       path);
    if (errnum == EISDIR)
        return err_set(err, E_IO,
                       "the configuration file %s is a folder; name a file with --config FILE or "
                       "BERTH_CONFIG",
                       path);
    return err_set(err, E_IO,
                   "the configuration file %s cannot be read: %s; make it readable for you, or "
                   "name another with --config FILE or BERTH_CONFIG (/dev/null: none)",
                   path, strerror(errnum));
}

static int slurp(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return unreadable(path, errno, err);
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
    int errnum = errno;
    close(fd);
    if (ret < 0)
        return err_set(err, E_LIMIT, "the configuration file %s is larger than %u bytes", path,
                       FILE_MAX_BYTES);
    return n < 0 ? unreadable(path, errnum, err) : 0;
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

/* Cuts a comment off: from a # at the beginning, after a space, and outside quotes. */
static void cut_comment(char *s)
{
    bool quoted = false;
    for (char *p = s; *p; p++) {
        if (*p == '"')
            quoted = !quoted;
        if (*p == '#' && !quoted && (p == s || isspace((unsigned char)p[-1]))) {
            *p = '\0';
            return;
        }
    }
}

static int unquote(char **s, struct err *err)
{
    size_t n = strlen(*s);
    if ((*s)[0] != '"')
        return 0;
    if (n < 2 || (*s)[n - 1] != '"' || memchr(*s + 1, '"', n - 2))
        return err_set(err, E_INVALID,
                       "a value that begins with a quotation mark ends with one, and holds no "
                       "other");
    (*s)[n - 1] = '\0';
    (*s)++;
    return 0;
}

static int read_line(struct reading *r, char *line, struct err *err)
{
    cut_comment(line);
    line = trim(line);
    if (!*line)
        return 0;
    char *eq = strchr(line, '=');
    if (!eq)
        return err_set(err, E_INVALID, "'%.64s' is not `key = value`", line);
    *eq = '\0';
    const char *key = trim(line);
    char *value = trim(eq + 1);
    enum config_id id = config_find(key);
    if (id == CONFIG_N_OPTIONS) {
        const char *near = config_near(key);
        if (near)
            return err_set(err, E_INVALID, "there is no option '%.64s'; did you mean '%s'?", key,
                           near);
        return err_set(err, E_INVALID,
                       "there is no option '%.64s'; `berth config show` lists those there are",
                       key);
    }
    if (r->first[id])
        return err_set(err, E_INVALID, "%s stands on line %u already; keep one of the two",
                       config_option(id)->key, r->first[id]);
    r->first[id] = r->line;
    if (!(r->want & (1ull << id)))
        return 0;
    if (unquote(&value, err) < 0 || config_value_set(r->c, id, value, CONFIG_FROM_FILE, err) < 0)
        return err_wrap(err, "%s", key);
    r->c->values[id].line = r->line;
    return 0;
}

int config_file_read(struct config *c, uint64_t want, const char *path, config_note_fn fn,
                     void *ctx, struct err *err)
{
    struct reading r = {.c = c, .want = want, .path = path};
    struct buf text;
    buf_init(&text, FILE_MAX_BYTES);
    int rc = slurp(path, &text, err);
    char *end = text.data ? text.data + text.len : NULL;
    for (char *s = text.data; rc == 0 && s && s < end;) {
        char *nl = memchr(s, '\n', (size_t)(end - s));
        size_t n = (size_t)((nl ? nl : end) - s);
        struct err bad = ERR_INIT;
        s[n] = '\0';
        r.line++;
        if (memchr(s, '\0', n))
            err_set(&bad, E_INVALID, "this is not text");
        if (bad.code || read_line(&r, s, &bad) < 0) {
            err_wrap(&bad, "%s:%u", path, r.line);
            fn(ctx, bad.msg);
        }
        s = nl ? nl + 1 : NULL;
    }
    buf_release(&text);
    return rc;
}
